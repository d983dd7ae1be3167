package builders

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// DigestOf is the SHA-256 over the parts, in hexadecimal.
func DigestOf(parts ...any) string {
	sum := sha256.Sum256([]byte(fmt.Sprintln(parts...)))
	return hex.EncodeToString(sum[:])
}

// GitMode is the mode of a file or directory of a checkout as git has it: what
// its owner's umask took away, or left to the group, says nothing. A file is 0755
// if its owner may run it and else 0644.
func GitMode(mode fs.FileMode) fs.FileMode {
	switch {
	case mode.IsDir():
		return fs.ModeDir | 0o755
	case mode&fs.ModeSymlink != 0:
		return fs.ModeSymlink | 0o777
	case mode&0o100 != 0:
		return mode.Type() | 0o755
	}
	return mode.Type() | 0o644
}

// DigestFiles is the SHA-256, in hexadecimal, over the names, modes and
// contents of the files at or below path. Modes are as git has them, [GitMode]. A symbolic link counts by what it says,
// which may lead nowhere, as an editor's lock does.
func DigestFiles(path string) (string, error) {
	return digestFiles(path, func(fs.DirEntry) bool { return false })
}

// DigestSources is [DigestFiles] without what is there for tests alone, and
// without installed modules.
func DigestSources(path string) (string, error) {
	return digestFiles(path, func(d fs.DirEntry) bool {
		if d.IsDir() {
			return d.Name() == "testdata" || d.Name() == "node_modules"
		}
		return strings.HasSuffix(d.Name(), "_test.go")
	})
}

func digestFiles(path string, skipped func(fs.DirEntry) bool) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case skipped(d) && d.IsDir():
			return filepath.SkipDir
		case skipped(d) || d.IsDir():
			return nil
		}

		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(path, file)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %o %d\n", rel, GitMode(info.Mode()), info.Size())
		return HashContent(h, file, info.Mode())
	})
	if err != nil {
		return "", fmt.Errorf("digest %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// HashContent writes the content of a file to h, or where a symbolic link says
// that it leads.
func HashContent(h io.Writer, file string, mode fs.FileMode) error {
	if mode&fs.ModeSymlink != 0 {
		target, err := os.Readlink(file)
		fmt.Fprintln(h, target)
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(h, f)
	return err
}
