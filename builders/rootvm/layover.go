package rootvm

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"
)

// layOver appends the members of the archive from to the archive in the file
// to, of which it cuts the end mark. No time becomes later than epoch.
// Directories that are there already stay as they are; anything else that is
// there twice is an error.
func layOver(to, from string, epoch time.Time) error {
	if err := appendArchive(to, from, epoch); err != nil {
		return fmt.Errorf("lay %s over the root file system: %w", from, err)
	}
	return nil
}

func appendArchive(to, from string, epoch time.Time) error {
	out, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	have, contentEnd, err := members(out)
	if err != nil {
		return fmt.Errorf("read %s: %w", to, err)
	}
	if err := out.Truncate(contentEnd); err != nil {
		return err
	}
	if _, err := out.Seek(contentEnd, io.SeekStart); err != nil {
		return err
	}

	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := appendMembers(tar.NewWriter(out), tar.NewReader(in), have, epoch); err != nil {
		return err
	}
	return out.Close()
}

// members returns the types of an archive's members by name, and where the
// last of them ends.
func members(f *os.File) (have map[string]byte, contentEnd int64, err error) {
	have = map[string]byte{}
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			// The reader has consumed two blocks of the end mark, no more.
			at, err := f.Seek(0, io.SeekCurrent)
			return have, at - 1024, err
		}
		if err != nil {
			return nil, 0, err
		}
		have[path.Clean(h.Name)] = h.Typeflag
	}
}

func appendMembers(out *tar.Writer, in *tar.Reader, have map[string]byte, epoch time.Time) error {
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return err
		}

		if was, ok := have[path.Clean(h.Name)]; ok {
			if was == tar.TypeDir && h.Typeflag == tar.TypeDir {
				continue
			}
			return fmt.Errorf("%s is there already", h.Name)
		}

		if h.ModTime.After(epoch) {
			h.ModTime = epoch
		}
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if _, err := io.Copy(out, in); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}
