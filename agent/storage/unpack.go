package storage

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// unpacker makes the files of an archive below a directory, which no name and no
// link in the archive leads out of: the kernel takes it for the root.
type unpacker struct {
	root *os.File
	dirs []unpackedDir // whose times come when all is in them
}

// unpackedDir is a directory with its times.
type unpackedDir struct {
	name string
	attributes
}

// unpack makes the files of an archive in an empty directory. Files that mean
// something in layers only, whiteouts, are files like others.
func unpack(ctx context.Context, archive io.Reader, dir *os.File) error {
	u := &unpacker{root: dir}
	for t := tar.NewReader(archive); ; {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if err := u.member(h, t); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}

	// What the sender has after the archive's end is read, so that a cut is seen.
	if _, err := io.Copy(io.Discard, archive); err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	for i := len(u.dirs) - 1; i >= 0; i-- {
		if err := u.inParent(u.dirs[i].name, u.dirs[i].applyTimes); err != nil {
			return err
		}
	}
	return nil
}

// member makes one file.
func (u *unpacker) member(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	a, err := attributesOf(h)
	if err != nil {
		return err
	}
	if name == "" {
		if a.kind() != unix.S_IFDIR {
			return errors.New("the root is not a directory")
		}
		u.dirs = append(u.dirs, unpackedDir{".", a})
		return a.apply(u.root, ".")
	}
	return u.inParent(name, func(dir *os.File, base string) error {
		if h.Typeflag == tar.TypeLink {
			return u.link(h.Linkname, dir, base)
		}
		if err := a.create(dir, base, h.Linkname, content); err != nil {
			return err
		}
		if a.kind() == unix.S_IFDIR {
			u.dirs = append(u.dirs, unpackedDir{name, a})
		}
		return a.apply(dir, base)
	})
}

// attributesOf is what a header says of a file. Extended attributes are taken over
// where they mean something in an image: capabilities, and the user's own.
func attributesOf(h *tar.Header) (attributes, error) {
	a := attributes{xattrs: map[string][]byte{}}
	kinds := map[byte]uint32{
		tar.TypeReg: unix.S_IFREG, tar.TypeLink: unix.S_IFREG, tar.TypeGNUSparse: unix.S_IFREG, tar.TypeDir: unix.S_IFDIR,
		tar.TypeSymlink: unix.S_IFLNK, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO,
	}
	kind, ok := kinds[h.Typeflag]
	if !ok {
		return a, fmt.Errorf("a file of the kind %q", h.Typeflag)
	}
	a.Mode = kind | uint32(h.Mode)&0o7777
	a.Uid, a.Gid = idOf(h.Uid), idOf(h.Gid)
	a.Size = h.Size
	a.Rdev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	a.Mtim = unix.NsecToTimespec(h.ModTime.UnixNano())
	a.Atim = a.Mtim
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if ok && (name == "security.capability" || strings.HasPrefix(name, "user.")) {
			a.xattrs[name] = []byte(value)
		}
	}
	return a, nil
}

// idOf is an id as it is stored; a container has no others.
func idOf(id int) uint32 {
	if id < 0 || id >= agent.SlotSize {
		return nobody
	}
	return uint32(id)
}

// create makes a file in the place of what an earlier member made there.
func (a *attributes) create(dir *os.File, name, target string, content io.Reader) error {
	fd := int(dir.Fd())
	if a.kind() == unix.S_IFDIR {
		err := unix.Mkdirat(fd, name, 0o700)
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
		var there unix.Stat_t
		if err := unix.Fstatat(fd, name, &there, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if there.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil
		}
	}
	if err := removeAt(dir, name); err != nil {
		return err
	}

	switch a.kind() {
	case unix.S_IFDIR:
		return unix.Mkdirat(fd, name, 0o700)
	case unix.S_IFLNK:
		return unix.Symlinkat(target, fd, name)
	case unix.S_IFREG:
		return writeFile(dir, name, content)
	}
	return unix.Mknodat(fd, name, a.kind()|0o600, int(a.Rdev))
}

// writeFile makes a regular file.
func writeFile(dir *os.File, name string, content io.Reader) error {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// link gives a file that was made one more name.
func (u *unpacker) link(target string, dir *os.File, name string) error {
	target = strings.TrimPrefix(path.Clean("/"+target), "/")
	return u.inParent(target, func(from *os.File, base string) error {
		if err := removeAt(dir, name); err != nil {
			return err
		}
		return unix.Linkat(int(from.Fd()), base, int(dir.Fd()), name, 0)
	})
}

// inParent calls f with the directory of a file and the file's name in it. The
// directory is made unless it is there.
func (u *unpacker) inParent(name string, f func(dir *os.File, base string) error) error {
	dir, err := u.open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return f(dir, path.Base(name))
}

// open opens a directory, and makes it unless it is there.
func (u *unpacker) open(name string) (*os.File, error) {
	how := &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd, err := unix.Openat2(int(u.root.Fd()), name, how)
	if errors.Is(err, unix.ENOENT) && name != "." {
		err = u.inParent(name, func(dir *os.File, base string) error { return unix.Mkdirat(int(dir.Fd()), base, 0o755) })
		if err == nil {
			fd, err = unix.Openat2(int(u.root.Fd()), name, how)
		}
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
