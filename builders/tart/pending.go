package tart

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rockpool/rootvm/builders"
)

// pendingDirectory is a directory that has not got its name yet.
type pendingDirectory struct {
	path string // where it will be
	tmp  string // where it is; empty: it has its name
}

// createDirectory begins the directory at path, which gets its name by finish,
// when it is whole. The caller defers cleanup. What killed builds left of it is
// removed, as [builders.CreateFile] does.
func createDirectory(path string) (*pendingDirectory, error) {
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), builders.UnfinishedFiles(filepath.Base(path))))
	if err != nil {
		return nil, err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}

	tmp, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path))
	if err != nil {
		return nil, err
	}
	d := &pendingDirectory{path: path, tmp: tmp}
	if err := os.Chmod(tmp, 0o755); err != nil {
		d.cleanup()
		return nil, err
	}
	return d, nil
}

// finish gives the directory its name, in one step. One that had the name before
// is removed.
func (d *pendingDirectory) finish() error {
	if err := builders.ReplaceDirectory(d.tmp, d.path); err != nil {
		return err
	}
	d.tmp = ""
	return nil
}

// cleanup removes the directory if it has not got its name.
func (d *pendingDirectory) cleanup() {
	if d.tmp != "" {
		_ = os.RemoveAll(d.tmp)
	}
}

// writeFile writes a file of the directory with exactly this mode.
func (d *pendingDirectory) writeFile(name string, b []byte, mode fs.FileMode) error {
	path := filepath.Join(d.tmp, name)
	if err := os.WriteFile(path, b, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// makeDirectory makes a directory in it, whatever the umask.
func (d *pendingDirectory) makeDirectory(name string) error {
	path := filepath.Join(d.tmp, name)
	return errors.Join(os.Mkdir(path, 0o755), os.Chmod(path, 0o755))
}
