package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxXattr bounds an extended attribute and a list of their names, in bytes
// (XATTR_SIZE_MAX, XATTR_LIST_MAX).
const maxXattr = 64 << 10

// copyBuffer is how much of a file is copied at once, in bytes.
const copyBuffer = 1 << 20

// attributes are what a file has besides its content.
type attributes struct {
	unix.Stat_t
	xattrs map[string][]byte
}

// converter says how attributes change on their way.
type converter func(a *attributes)

// openIn opens a file of a directory, whatever its kind, without following it.
func openIn(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path.Join(dir.Name(), name), Err: err}
	}
	return os.NewFile(uintptr(fd), path.Join(dir.Name(), name)), nil
}

// openDir opens a directory, which name must be and not lead to.
func openDir(dir *os.File, name string) (*os.File, error) {
	return openIn(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
}

// inDir is a path to a file of an open directory, for calls that take no
// descriptor of a directory. Its last element is not followed by those.
func inDir(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}

// readAttributes reads what a file of a directory has besides its content.
func readAttributes(dir *os.File, name string) (attributes, error) {
	var a attributes
	if err := unix.Fstatat(int(dir.Fd()), name, &a.Stat_t, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return a, &os.PathError{Op: "stat", Path: path.Join(dir.Name(), name), Err: err}
	}
	a.xattrs = map[string][]byte{}
	err := readXattrs(inDir(dir, name), a.xattrs)
	if err != nil {
		return a, fmt.Errorf("extended attributes of %s: %w", path.Join(dir.Name(), name), err)
	}
	return a, nil
}

// readXattrs reads the extended attributes of a file, which is not followed.
func readXattrs(file string, all map[string][]byte) error {
	names, err := readWhole(func(b []byte) (int, error) { return unix.Llistxattr(file, b) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(string(names), "\x00") {
		if name == "" {
			continue
		}
		value, err := readWhole(func(b []byte) (int, error) { return unix.Lgetxattr(file, name, b) })
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all[name] = value
	}
	return nil
}

// readWhole calls read with a buffer that is large enough for all that there is,
// which seldom is much.
func readWhole(read func([]byte) (int, error)) ([]byte, error) {
	b := make([]byte, 256)
	n, err := read(b)
	if errors.Is(err, unix.ERANGE) {
		b = make([]byte, maxXattr)
		n, err = read(b)
	}
	if err != nil {
		return nil, err
	}
	return b[:n], nil
}

// kind is the type of the file (S_IFMT).
func (a *attributes) kind() uint32 { return a.Mode & unix.S_IFMT }

// apply gives a file of a directory its attributes, the times last. Owner comes
// before mode and capabilities, which a change of owner takes away.
func (a *attributes) apply(dir *os.File, name string) error {
	fd, file := int(dir.Fd()), path.Join(dir.Name(), name)
	if err := unix.Fchownat(fd, name, int(a.Uid), int(a.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "chown", Path: file, Err: err}
	}
	if a.kind() != unix.S_IFLNK {
		if err := unix.Fchmodat(fd, name, a.Mode&^unix.S_IFMT, 0); err != nil {
			return &os.PathError{Op: "chmod", Path: file, Err: err}
		}
	}
	for key, value := range a.xattrs {
		if err := unix.Lsetxattr(inDir(dir, name), key, value, 0); err != nil {
			return fmt.Errorf("extended attribute %s of %s: %w", key, file, err)
		}
	}
	return a.applyTimes(dir, name)
}

// applyTimes gives a file of a directory its times.
func (a *attributes) applyTimes(dir *os.File, name string) error {
	times := []unix.Timespec{a.Atim, a.Mtim}
	if err := unix.UtimesNanoAt(int(dir.Fd()), name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "set times", Path: path.Join(dir.Name(), name), Err: err}
	}
	return nil
}

// makeSpecial makes what is neither a regular file nor a directory.
func (a *attributes) makeSpecial(from *os.File, name string, to *os.File, as string) error {
	file := path.Join(to.Name(), as)
	switch a.kind() {
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(from.Fd()), name, target)
		if err != nil {
			return &os.PathError{Op: "readlink", Path: path.Join(from.Name(), name), Err: err}
		}
		if err := unix.Symlinkat(string(target[:n]), int(to.Fd()), as); err != nil {
			return &os.PathError{Op: "symlink", Path: file, Err: err}
		}
	default: // devices, among them the whiteouts of overlays, pipes, sockets
		if err := unix.Mknodat(int(to.Fd()), as, a.kind()|0o600, int(a.Rdev)); err != nil {
			return &os.PathError{Op: "mknod", Path: file, Err: err}
		}
	}
	return nil
}

// copyContent copies the data of a file from an offset up to another, and leaves
// holes where it has some.
func copyContent(to, from *os.File, start, end int64) error {
	buffer := make([]byte, min(copyBuffer, max(0, end-start)))
	for start < end {
		data, err := unix.Seek(int(from.Fd()), start, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // no more data
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "find data of", Path: from.Name(), Err: err}
		}
		hole, err := unix.Seek(int(from.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return &os.PathError{Op: "find a hole of", Path: from.Name(), Err: err}
		}

		data, hole = min(data, end), min(hole, end)
		section := io.NewSectionReader(from, data, hole-data)
		if _, err := io.CopyBuffer(onlyWriter{io.NewOffsetWriter(to, data)}, onlyReader{section}, buffer); err != nil {
			return err
		}
		start = hole
	}
	return nil
}

// onlyWriter and onlyReader hide other methods, so that the buffer is used.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// copyFile makes a regular file of a directory anew in another. An open file has
// no name to be opened by a second time: what is there was removed.
func copyFile(from *os.File, name string, to *os.File, as string, a *attributes) (err error) {
	in, err := openIn(from, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer in.Close()
	fd, err := unix.Openat(int(to.Fd()), as, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "create", Path: path.Join(to.Name(), as), Err: err}
	}
	out := os.NewFile(uintptr(fd), path.Join(to.Name(), as))
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.Truncate(a.Size); err != nil {
		return err
	}
	return copyContent(out, in, 0, a.Size)
}

// copier copies trees into one, whose files with several names keep them.
type copier struct {
	root  *os.File
	names map[uint64]string // in root, by the inode of what was copied
}

// newCopier returns one for copies into an empty directory.
func newCopier(root *os.File) *copier { return &copier{root: root, names: map[uint64]string{}} }

// copyTree copies what is in a directory, and its attributes, into an empty one.
func (c *copier) copyTree(ctx context.Context, from, to *os.File) error {
	names, err := from.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		a, err := readAttributes(from, name)
		if err != nil {
			return err
		}
		if err := c.copyOne(ctx, from, to, name, &a); err != nil {
			return err
		}
	}

	a, err := readAttributes(from, ".")
	if err != nil {
		return err
	}
	return a.apply(to, ".")
}

// copyOne copies one file of a directory, with all that is in it.
func (c *copier) copyOne(ctx context.Context, from, to *os.File, name string, a *attributes) error {
	if a.kind() == unix.S_IFDIR {
		return c.copyDir(ctx, from, to, name)
	}
	if first, ok := c.names[a.Ino]; ok {
		if err := unix.Linkat(int(c.root.Fd()), first, int(to.Fd()), name, 0); err != nil {
			return &os.LinkError{Op: "link", Old: first, New: path.Join(to.Name(), name), Err: err}
		}
		return nil
	}
	if a.Nlink > 1 {
		relative, err := filepath.Rel(c.root.Name(), path.Join(to.Name(), name))
		if err != nil {
			return err
		}
		c.names[a.Ino] = relative
	}

	var err error
	if a.kind() == unix.S_IFREG {
		err = copyFile(from, name, to, name, a)
	} else {
		err = a.makeSpecial(from, name, to, name)
	}
	if err != nil {
		return err
	}
	return a.apply(to, name)
}

// copyDir copies a directory of a directory.
func (c *copier) copyDir(ctx context.Context, from, to *os.File, name string) error {
	if err := unix.Mkdirat(int(to.Fd()), name, 0o700); err != nil {
		return &os.PathError{Op: "mkdir", Path: path.Join(to.Name(), name), Err: err}
	}
	below, err := openDir(from, name)
	if err != nil {
		return err
	}
	defer below.Close()
	made, err := openDir(to, name)
	if err != nil {
		return err
	}
	defer made.Close()
	return c.copyTree(ctx, below, made)
}
