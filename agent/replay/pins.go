package replay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Pins keeps what the kernel knows of names in a shared directory by 9p. There
// the kernel makes an inode of its own for a name each time that nobody uses it
// any more, and a watch stays with the one that it was given for: it hears of
// nothing that is done by that name later. A name that is held open leads to the
// same inode for everybody. It also goes on doing so when the host puts another
// file in its place, because by 9p an inode stands for a path.
//
// Names are held with O_PATH, which opens nothing on the host.
type Pins struct {
	Max int // names at most; those after them are not held

	everywhere bool // for tests: on any file system

	mu     sync.Mutex
	device uint64         // of the directory that was walked
	held   map[string]int // descriptors by path
}

// NewPins holds nothing yet.
func NewPins(most int) *Pins { return &Pins{Max: most, held: map[string]int{}} }

// unpinned are directories of which the host tells no change.
var unpinned = map[string]bool{".git": true, "node_modules": true}

// follow holds every name below the directory that is open as root, unless it
// did so already or needs not.
func (p *Pins) follow(root int) error {
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return fmt.Errorf("look at the shared directory: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.device == st.Dev {
		return nil
	}

	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("look at the shared directory: %w", err)
	}
	p.dropAll() // of a mount that is gone
	p.device = st.Dev
	if fileSystem(string(mounts), st.Dev) != "9p" && !p.everywhere {
		return nil
	}
	// Directories first: with them held, at least what changes in them is heard.
	return errors.Join(p.walk(root, true), p.walk(root, false))
}

// fileSystem is the kind of file system of a device, by a table in the form of
// proc_pid_mountinfo(5). What statfs(2) says of 9p is the kind of the host's.
func fileSystem(mounts string, device uint64) string {
	number := fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))
	for line := range strings.Lines(mounts) {
		mount, system, _ := strings.Cut(line, " - ")
		if f := strings.Fields(mount); len(f) > 2 && f[2] == number {
			kind, _, _ := strings.Cut(system, " ")
			return kind
		}
	}
	return ""
}

// active reports whether names are held here.
func (p *Pins) active() bool { return p != nil && len(p.held) > 0 }

// walk holds the directories below root, or all else.
func (p *Pins) walk(root int, directories bool) error {
	var faults []error
	for queue := []string{"."}; len(queue) > 0 && len(p.held) < p.Max; queue = queue[1:] {
		dir := queue[0]
		if directories {
			if err := p.open(root, dir); err != nil && !gone(err) {
				faults = append(faults, fmt.Errorf("hold %s: %w", dir, err))
			}
		}

		entries, err := readDir(root, dir)
		if err != nil && !gone(err) {
			faults = append(faults, fmt.Errorf("read %s: %w", dir, err))
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			switch {
			case e.IsDir() && !unpinned[e.Name()]:
				queue = append(queue, name)
			case !e.IsDir() && !directories:
				_ = p.open(root, name) // one that is gone needs no holding
			}
		}
	}
	return errors.Join(faults...)
}

func readDir(root int, dir string) ([]fs.DirEntry, error) {
	fd, err := unix.Openat2(root, dir, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: inside})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	return f.ReadDir(-1)
}

// open holds a name below root.
func (p *Pins) open(root int, name string) error {
	if _, ok := p.held[name]; ok || len(p.held) >= p.Max {
		return nil
	}
	fd, err := unix.Openat2(root, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: inside})
	if err == nil {
		p.held[name] = fd
	}
	return err
}

// hold holds a name that is open as fd, which stays the caller's.
func (p *Pins) hold(name string, fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.held[name]; ok || !p.active() || len(p.held) >= p.Max {
		return
	}
	if own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		p.held[name] = own
	}
}

// holdWritten holds a file that a program in the guest wrote, open as fd, below
// dir.
func (p *Pins) holdWritten(dir string, fd int) {
	p.mu.Lock()
	needed := p.active()
	p.mu.Unlock()
	if !needed {
		return
	}
	link := fmt.Sprintf("/proc/self/fd/%d", fd)
	target, err := os.Readlink(link)
	name, below := strings.CutPrefix(target, dir+"/")
	if err != nil || !below || strings.HasSuffix(name, " (deleted)") {
		return
	}
	for part := range strings.SplitSeq(path.Dir(name), "/") {
		if unpinned[part] {
			return
		}
	}

	if again, err := unix.Open(link, unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
		p.hold(name, again)
		_ = unix.Close(again)
	}
}

// drop lets go of a name that is gone, and of those below it.
func (p *Pins) drop(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.active() {
		return
	}
	for held, fd := range p.held {
		if held == name || strings.HasPrefix(held, name+"/") {
			_ = unix.Close(fd)
			delete(p.held, held)
		}
	}
}

// dropAll lets go of everything.
func (p *Pins) dropAll() {
	for _, fd := range p.held {
		_ = unix.Close(fd)
	}
	clear(p.held)
}
