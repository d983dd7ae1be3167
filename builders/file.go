package builders

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// CreateFile begins the file at path, which gets its name by
// CloseAtomicallyReplace, when it is whole. The caller defers Cleanup. What
// killed builds left of the same file, and beside it under names that begin like
// its own, is removed: nobody else may be making it, which a lock that the caller
// holds sees to.
func CreateFile(path string) (*renameio.PendingFile, error) {
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), UnfinishedFiles(filepath.Base(path))))
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	for _, file := range left {
		if err := os.RemoveAll(file); err != nil {
			return nil, fmt.Errorf("write %s: %w", path, err)
		}
	}

	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o644))
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return f, nil
}

// UnfinishedFiles is the pattern, of [filepath.Match], of the names that a file
// called name has while [CreateFile] makes it. name may be a pattern itself.
func UnfinishedFiles(name string) string { return "." + name + "[0-9]*" }

// WriteFile replaces the file at path in one step.
func WriteFile(path string, b []byte) error {
	err := renameio.WriteFile(path, b, 0o644, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o644))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// CopyCheckout makes of to, which is removed before, a copy of the directory
// from of a checkout, with the modes that git has ([GitMode]).
func CopyCheckout(to, from string) error {
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	err := filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chmod(path, GitMode(info.Mode()))
	})
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}
