package replay

import (
	"bufio"
	"context"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Orphans wakes programs that watch a file itself, not its directory, when there
// is another file or none at its path. The kernel would tell them that theirs
// was deleted once it learns that it has no name any more; but it asks the host
// about the path, and never again about the file. So the file is found by the
// handle that the kernel shows of each watch (proc_pid_fdinfo(5)), and asked
// about. FUSE, so virtiofs, can open a file by that.
type Orphans struct {
	Dir  string // the shared directory
	Proc string // "/proc"

	inodes chan []uint64
}

// orphansPause is how much longer than a search the pause after it is, at least
// orphansInterval.
const (
	orphansPause    = 10
	orphansInterval = 500 * time.Millisecond
)

// NewOrphans makes one, which does nothing before [Orphans.Run].
func NewOrphans(dir string) *Orphans {
	return &Orphans{Dir: dir, Proc: "/proc", inodes: make(chan []uint64, 64)}
}

// note has watches of files with these inodes looked for. It does not wait:
// where more comes than can be looked for, some are not.
func (o *Orphans) note(inodes []uint64) {
	select {
	case o.inodes <- inodes:
	default:
	}
}

// Run looks for watches until ctx ends.
func (o *Orphans) Run(ctx context.Context) {
	for {
		wanted := map[uint64]bool{}
		select {
		case <-ctx.Done():
			return
		case list := <-o.inodes:
			o.collect(wanted, list)
		}
		start := time.Now()
		o.wake(wanted)
		took := time.Since(start)
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(orphansInterval, orphansPause*took)):
		}
	}
}

// collect adds a list, and all that wait behind it.
func (o *Orphans) collect(wanted map[uint64]bool, list []uint64) {
	for {
		for _, inode := range list {
			wanted[inode] = true
		}
		select {
		case list = <-o.inodes:
		default:
			return
		}
	}
}

// wake asks the host about each watched file with one of these inodes.
func (o *Orphans) wake(wanted map[uint64]bool) {
	root, err := unix.Open(o.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(root)
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return
	}
	device := uint64(unix.Major(st.Dev))<<20 | uint64(unix.Minor(st.Dev)) // dev_t inside the kernel
	for _, info := range o.watchers() {
		f, err := os.Open(info)
		if err != nil {
			continue // the process has ended
		}
		for _, handle := range handles(f, device, wanted) {
			ask(root, handle)
		}
		_ = f.Close()
	}
}

// watchers lists what the kernel shows of every inotify instance.
func (o *Orphans) watchers() (list []string) {
	links, err := filepath.Glob(filepath.Join(o.Proc, "[0-9]*", "fd", "*"))
	if err != nil {
		return nil
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == "anon_inode:inotify" {
			dir, fd := filepath.Split(link)
			list = append(list, filepath.Join(filepath.Dir(filepath.Clean(dir)), "fdinfo", fd))
		}
	}
	return list
}

// handles reads the handles of those watches that are on a device and one of
// these inodes.
func handles(r io.Reader, device uint64, wanted map[uint64]bool) (list []unix.FileHandle) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0] != "inotify" {
			continue
		}

		fields := map[string]string{}
		for _, word := range words[1:] {
			name, value, _ := strings.Cut(word, ":")
			fields[name] = value
		}
		number := func(name string) uint64 {
			n, err := strconv.ParseUint(fields[name], 16, 64)
			if err != nil {
				return 0
			}
			return n
		}

		if number("sdev") != device || !wanted[number("ino")] {
			continue
		}
		handle, err := hex.DecodeString(fields["f_handle"])
		if err == nil && len(handle) > 0 {
			list = append(list, unix.NewFileHandle(int32(number("fhandle-type")), handle))
		}
	}
	return list
}

// ask asks the host about a file. When that has no name any more, the kernel
// tells who watches it once nothing has it open.
func ask(root int, handle unix.FileHandle) {
	fd, err := unix.OpenByHandleAt(root, handle, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return
	}
	_, _ = stat(fd)
	_ = unix.Close(fd)
}
