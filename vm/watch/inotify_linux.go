package watch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxHints bounds the places that wait to be looked at.
const maxHints = 64 << 10

// mask is what is asked of inotify. Changes of attributes are among it because
// a time may be set without a write.
const mask = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_CLOSE_WRITE |
	unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ONLYDIR | unix.IN_EXCL_UNLINK

// inotify is the source on Linux.
type inotify struct {
	file *os.File
	fd   int
	told chan struct{}

	mu    sync.Mutex
	dirs  map[int32]string
	wds   map[string]int32
	hints map[hint]happened
	lost  bool
}

// newSource makes the platform's source, or says in a sentence why there is
// none.
func newSource() (source, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if errors.Is(err, unix.EMFILE) {
		return nil, errors.New("other programs have all of this user's inotify instances (raise the limit: sudo sysctl fs.inotify.max_user_instances=512)")
	}
	if err != nil {
		return nil, fmt.Errorf("inotify does not work: %w", err)
	}
	n := &inotify{
		file: os.NewFile(uintptr(fd), "inotify"), fd: fd, told: make(chan struct{}, 1),
		dirs: map[int32]string{}, wds: map[string]int32{}, hints: map[hint]happened{},
	}
	go n.read()
	return n, nil
}

// limitCure is what raises the limit of watches.
func limitCure() string {
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_user_watches")
	if err != nil {
		return "raise the limit: sudo sysctl fs.inotify.max_user_watches=1048576"
	}
	return fmt.Sprintf("the limit is %s: sudo sysctl fs.inotify.max_user_watches=1048576", strings.TrimSpace(string(b)))
}

func (n *inotify) add(dir string, f *os.File) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var wd int
	var failed error
	err = raw.Control(func(fd uintptr) { // by the open directory: its path may have become a link
		wd, failed = unix.InotifyAddWatch(n.fd, fmt.Sprintf("/proc/self/fd/%d", fd), mask)
	})
	switch err := errors.Join(err, failed); {
	case errors.Is(err, unix.ENOSPC):
		return errLimit
	case err != nil:
		return fmt.Errorf("watch %s: %w", dir, err)
	}

	if old, ok := n.dirs[int32(wd)]; ok && old != dir { // it was moved, and the kernel still watches it
		delete(n.wds, old)
	}
	n.dirs[int32(wd)], n.wds[dir] = dir, int32(wd)
	return nil
}

func (n *inotify) remove(dir string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	wd, ok := n.wds[dir]
	if !ok {
		return
	}
	delete(n.wds, dir)
	delete(n.dirs, wd)
	_, _ = unix.InotifyRmWatch(n.fd, uint32(wd)) // fails when the directory is gone, and the watch with it
}

func (n *inotify) ready() <-chan struct{} { return n.told }

func (n *inotify) take() (map[hint]happened, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	hints, lost := n.hints, n.lost
	n.hints, n.lost = map[hint]happened{}, false
	return hints, lost
}

func (n *inotify) close() { _ = n.file.Close() }

// read takes the kernel's events, at once, so that its queue stays short, until
// the source is closed.
func (n *inotify) read() {
	buf := make([]byte, 64<<10)
	for {
		size, err := n.file.Read(buf)
		if err != nil {
			return
		}
		n.mu.Lock()
		n.parse(buf[:size])
		n.mu.Unlock()
		signal(n.told)
	}
}

// parse reads inotify_event structures: inotify(7).
func (n *inotify) parse(b []byte) {
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		what := binary.NativeEndian.Uint32(b[4:])
		length := int(binary.NativeEndian.Uint32(b[12:]))
		if len(b) < unix.SizeofInotifyEvent+length {
			return
		}
		name := b[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+length]
		b = b[unix.SizeofInotifyEvent+length:]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		n.note(wd, what, string(name))
	}
}

// note keeps one event.
func (n *inotify) note(wd int32, what uint32, name string) {
	if what&unix.IN_Q_OVERFLOW != 0 {
		n.lost = true
		return
	}
	dir, ok := n.dirs[wd]
	if !ok {
		return
	}
	if what&unix.IN_IGNORED != 0 { // it was deleted or unmounted
		delete(n.dirs, wd)
		if n.wds[dir] == wd {
			delete(n.wds, dir)
			n.keep(hint{dir: dir}, ended)
		}
		return
	}
	if name == "" { // of the directory itself: its parent tells that too
		return
	}
	n.keep(hint{dir, name}, flags(what))
}

// flags is what is known from an event.
func flags(what uint32) happened {
	switch {
	case what&unix.IN_CLOSE_WRITE != 0:
		return closedWrite
	case what&unix.IN_MODIFY != 0, what&(unix.IN_CREATE|unix.IN_ISDIR) == unix.IN_CREATE:
		return written | isOpen
	}
	return 0
}

// keep keeps a hint until it is taken.
func (n *inotify) keep(at hint, what happened) {
	known, ok := n.hints[at]
	if !ok && len(n.hints) >= maxHints {
		n.lost = true
		return
	}
	if what&closedWrite != 0 {
		known &^= isOpen
		if known&written != 0 {
			known |= saved
		}
	}
	n.hints[at] = known | what
}
