package replay

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/guest"
)

// Result is what became of the changes of a batch.
type Result struct {
	Replayed int
	Skipped  int   // made in the guest, or newer there
	Fault    error // the first one; others may have followed
}

// Replayer raises events in one directory.
type Replayer struct {
	Dir     string   // the shared directory
	Orphans *Orphans // nil: who watches a file itself hears of its end within a second only
	Own     *Own     // what programs in the guest write; nil: nothing is known of that

	touched func(path string) // for tests: an event is about to be raised
}

// errNotMounted says that there is no shared directory yet.
var errNotMounted = errors.New("the shared directory is not mounted")

// wait waits until the shared directory is mounted: a file system of its own.
func (r *Replayer) wait(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		var in, above unix.Stat_t
		err := errors.Join(unix.Stat(r.Dir, &in), unix.Stat(path.Dir(r.Dir), &above))
		if err == nil && in.Dev != above.Dev {
			return nil
		}
		select {
		case <-ctx.Done():
			return errNotMounted
		case <-tick.C:
		}
	}
}

// Replay raises the events of changes.
func (r *Replayer) Replay(changes []guest.FileChange) Result {
	var result Result
	root, err := unix.Open(r.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Result{Fault: fmt.Errorf("open the shared directory: %w", err)}
	}
	defer unix.Close(root)
	if r.Own != nil {
		r.Own.follow(r.Dir)
	}

	b := &batch{r: r, root: root, parents: map[string]bool{}}
	for _, c := range changes {
		done, err := b.raise(c)
		switch {
		case err != nil && result.Fault == nil:
			result.Fault = fmt.Errorf("%s: %w", c.Path, err)
		case err != nil:
		case done:
			result.Replayed++
		default:
			result.Skipped++
		}
	}
	for _, dir := range b.order { // after what is in them, so that who looks finds all of it
		if err := b.touchDir(dir); err != nil && result.Fault == nil {
			result.Fault = fmt.Errorf("%s: %w", dir, err)
		}
	}
	if r.Orphans != nil && len(b.was) > 0 {
		r.Orphans.note(b.was)
	}
	return result
}

// batch is one that is being replayed.
type batch struct {
	r       *Replayer
	root    int
	parents map[string]bool // directories of which something was created or deleted
	order   []string
	was     []uint64 // inodes of files that are gone
}

// inside keeps a path below the root, without symbolic links and mounts: a
// program in the guest may exchange any directory for a link at any time.
const inside = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// open opens what is at a path below the root, to act on exactly that.
func (b *batch) open(at int, p string, flags uint64) (int, error) {
	for range 8 {
		fd, err := unix.Openat2(at, p, &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC | flags, Resolve: inside})
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) { // EAGAIN: something was renamed meanwhile
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// raise raises the events of one change; false when that was not to be done.
func (b *batch) raise(c guest.FileChange) (bool, error) {
	if c.Path == "." {
		b.note(".")
		return true, nil
	}
	if c.Was != 0 {
		b.was = append(b.was, c.Was)
	}
	dir, name := path.Split(c.Path)
	dir = path.Clean(dir)
	parent, err := b.open(b.root, dir, unix.O_DIRECTORY)
	if gone(err) { // its directory is gone too: who watches what is above hears of it
		b.note(dir)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(parent)

	if c.Op != guest.FileModified {
		b.refresh(parent, name)
	}
	fd, err := b.open(parent, name, 0)
	if c.Op == guest.FileDeleted && !gone(err) || c.Op != guest.FileDeleted && gone(err) {
		// It is there again, or gone already, and the host will tell.
		if err == nil {
			_ = unix.Close(fd)
		}
		b.note(dir)
		return true, nil
	}
	if c.Op == guest.FileDeleted {
		b.note(dir)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	return b.touch(fd, c, dir)
}

// touch raises the event of what is open, and has those of its directory raised
// if it is new there.
func (b *batch) touch(fd int, c guest.FileChange, dir string) (bool, error) {
	st, err := stat(fd)
	if err != nil {
		return false, err
	}
	if b.r.Own != nil && b.r.Own.wrote(st) {
		return false, nil
	}
	if c.Op == guest.FileCreated {
		b.note(dir)
	}
	directory, mtime := st.Mode&unix.S_IFMT == unix.S_IFDIR, st.Mtime.Nano()
	if !directory && mtime > c.ModTime { // the host has changed it since, and will tell
		return false, nil
	}
	if b.r.touched != nil {
		b.r.touched(c.Path)
	}
	if directory || c.Busy || mtime != c.ModTime { // no time is set that the host did not tell
		return true, sayAttributes(fd, st)
	}
	return true, sayModified(fd, st)
}

// note has the event of a directory raised at the end of the batch.
func (b *batch) note(dir string) {
	if !b.parents[dir] {
		b.parents[dir] = true
		b.order = append(b.order, dir)
	}
}

// touchDir raises the event of a directory, or of the nearest one above it that
// is there.
func (b *batch) touchDir(dir string) error {
	for {
		fd, err := b.open(b.root, dir, unix.O_DIRECTORY)
		if gone(err) && dir != "." {
			if above := path.Dir(dir); !b.parents[above] {
				dir = above
				continue
			}
			return nil // that one's is raised in any case
		}
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		st, err := stat(fd)
		if err != nil {
			return err
		}
		if b.r.touched != nil {
			b.r.touched(dir)
		}
		return sayAttributes(fd, st)
	}
}

// gone reports whether there is nothing at a path, or not what it leads through.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ESTALE) ||
		errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV)
}

// refresh makes the kernel ask the host what is at a name, where it would go by
// what it learned up to a second ago. The first question is about the file that
// it knows; if that has no name any more, who watches it hears that it was
// deleted. The second is for the name: a link cannot be made to what is in
// another file system, but before it is refused the name has to be free, which
// is asked of the host.
func (b *batch) refresh(parent int, name string) {
	var st unix.Statx_t
	_ = unix.Statx(parent, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
	_ = unix.Linkat(unix.AT_FDCWD, "/proc/self/status", parent, name, 0)
}

// status is what is known of an open file.
type status struct {
	Ino   uint64
	Mode  uint32
	Size  int64
	Mtime unix.Timespec
}

// stat asks the host of what is open.
func stat(fd int) (status, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
	if err != nil {
		return status{}, fmt.Errorf("look: %w", err)
	}
	return status{
		Ino: st.Ino, Mode: uint32(st.Mode), Size: int64(st.Size),
		Mtime: unix.Timespec{Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)},
	}, nil
}

// omit leaves a time as it is (linux/stat.h).
var omit = unix.Timespec{Nsec: unix.UTIME_OMIT}

// sayModified raises IN_MODIFY: that is what the kernel takes the setting of
// the modification time alone for (fsnotify_change in linux/fsnotify.h). It is
// set to what it is.
func sayModified(fd int, st status) error {
	err := unix.UtimesNanoAt(fd, "", []unix.Timespec{omit, st.Mtime}, unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("raise its event: %w", err)
	}
	return nil
}

// sayAttributes raises IN_ATTRIB by setting the permissions to what they are.
// Where that could drop special bits, the time is set to what it is.
func sayAttributes(fd int, st status) error {
	if st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return sayModified(fd, st)
	}
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), st.Mode&0o7777); err != nil {
		return fmt.Errorf("raise its event: %w", err)
	}
	return nil
}
