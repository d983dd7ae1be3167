package vm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/shirou/gopsutil/v4/disk"
)

// DataDisk makes the data disk, a sparse raw file, once. A larger size grows it;
// it is never made smaller nor written to. note is a sentence for the user.
func DataDisk(path string, size int64) (note string, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", newSparse(path, size)
	}
	if err != nil {
		return "", fmt.Errorf("data disk: %w", err)
	}
	switch {
	case info.Size() > size:
		return fmt.Sprintf("the data disk keeps its %s: it is never made smaller", Bytes(info.Size())), nil
	case info.Size() < size:
		if err := os.Truncate(path, size); err != nil {
			return "", fmt.Errorf("grow the data disk: %w", err)
		}
		return fmt.Sprintf("the data disk grows from %s to %s", Bytes(info.Size()), Bytes(size)), nil
	}
	return "", nil
}

// newSparse makes a file of that size which has no content yet. It appears
// under its name only when it is complete: what lies there is never made again.
func newSparse(path string, size int64) error {
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("make the data disk: %w", err)
	}
	defer f.Cleanup()
	err = f.Truncate(size)
	if err == nil {
		err = f.CloseAtomicallyReplace()
	}
	if err != nil {
		return fmt.Errorf("make the data disk of %s: %w", Bytes(size), err)
	}
	return nil
}

// CopySparse writes all of r to a new file, leaving holes where blocks are zero.
func CopySparse(to *os.File, r io.Reader) error {
	const block = 64 << 10
	b, zero := make([]byte, block), make([]byte, block)
	var offset int64
	for {
		n, err := io.ReadFull(r, b)
		if n > 0 && string(b[:n]) != string(zero[:n]) {
			if _, err := to.WriteAt(b[:n], offset); err != nil {
				return err
			}
		}
		offset += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return to.Truncate(offset)
		case err != nil:
			return err
		}
	}
}

// Room that an instance needs on its file system to start, and to be at ease.
const (
	minRoom  = 512 * MiB
	goodRoom = 4 * GiB
)

// Room checks the free space where an instance's disks live. note is a sentence
// for the user.
func Room(dir string) (note string, err error) {
	usage, err := disk.Usage(dir)
	if err != nil {
		return "", fmt.Errorf("free space of %s: %w", dir, err)
	}
	return judgeRoom(dir, int64(usage.Free))
}

func judgeRoom(dir string, free int64) (note string, err error) {
	switch {
	case free < minRoom:
		return "", fmt.Errorf("only %s are free on the file system of %s, %s are needed: free some space", Bytes(free), dir, Bytes(minRoom))
	case free < goodRoom:
		return fmt.Sprintf("only %s are free on the file system of %s: the VM's disks grow as they are used", Bytes(free), dir), nil
	}
	return "", nil
}
