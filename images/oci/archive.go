package oci

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rockpool/rootvm/builders"
)

// Archive writes the layout to file as an OCI archive, which `podman load` and
// `docker load` read. The same layout gives the same bytes. The file gets its
// name when it is complete.
func (l Layout) Archive(file string) error {
	out, err := builders.CreateFile(file)
	if err != nil {
		return fmt.Errorf("archive %s: %w", l.Dir, err)
	}
	defer out.Cleanup()

	t := tar.NewWriter(out)
	err = filepath.WalkDir(l.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return add(t, l.Dir, path, d)
	})
	if err := errors.Join(err, t.Close()); err != nil {
		return fmt.Errorf("archive %s: %w", l.Dir, err)
	}
	return out.CloseAtomicallyReplace()
}

func add(t *tar.Writer, dir, path string, d fs.DirEntry) error {
	name, err := filepath.Rel(dir, path)
	if err != nil || name == "." {
		return err
	}
	if d.IsDir() {
		return t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755})
	}

	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}
