package replay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ownMemory is how long it is known that a program in the guest wrote a file,
// and maxOwn of how many files at most.
const (
	ownMemory = 5 * time.Second
	maxOwn    = 64 << 10
)

// Own knows which files programs in the guest wrote a moment ago. The host sees
// those as changes too, and tells them; but whoever watches in the guest has
// heard of them from the kernel.
type Own struct {
	file *os.File // of fanotify
	raw  syscall.RawConn

	mu     sync.Mutex
	device uint64 // that is marked
	marked bool
	files  map[version]time.Time
}

// version is a file as it was when it was closed, under whatever name it has by
// now.
type version struct {
	inode uint64
	mtime int64
}

// NewOwn listens from now on. It needs CAP_SYS_ADMIN.
func NewOwn() (*Own, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC|unix.O_NOATIME)
	if err != nil {
		return nil, fmt.Errorf("hear what programs write: %w", err)
	}
	o := &Own{file: os.NewFile(uintptr(fd), "fanotify"), files: map[version]time.Time{}}
	if o.raw, err = o.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, o.file.Close())
	}
	go o.listen()
	return o, nil
}

// Close ends it.
func (o *Own) Close() error { return o.file.Close() }

// listen takes events in as they come, because one that waits keeps the file
// system from being unmounted.
func (o *Own) listen() {
	for {
		first := true
		err := o.raw.Read(func(fd uintptr) bool {
			if first { // wait before the read, which another may have made meanwhile
				first = false
				return false
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			o.read(int(fd), time.Now())
			return true
		})
		if err != nil {
			return
		}
	}
}

// follow takes in what was written until now in the file system at dir, of which
// there is one at a time.
func (o *Own) follow(dir string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return
	}
	_ = o.raw.Control(func(fd uintptr) {
		if !o.marked || st.Dev != o.device {
			err := unix.FanotifyMark(int(fd), unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_CLOSE_WRITE, unix.AT_FDCWD, dir)
			o.marked, o.device = err == nil, st.Dev
		}
		o.read(int(fd), time.Now())
	})
}

// read takes in what waits: fanotify(7).
func (o *Own) read(from int, now time.Time) {
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Read(from, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			break
		}
		for b := buf[:n]; len(b) >= int(unix.FAN_EVENT_METADATA_LEN); {
			length := binary.NativeEndian.Uint32(b)
			if fd := int32(binary.NativeEndian.Uint32(b[16:])); fd >= 0 {
				o.take(int(fd), int(int32(binary.NativeEndian.Uint32(b[20:]))), now)
			}
			b = b[min(int(length), len(b)):]
		}
	}

	for v, at := range o.files {
		if now.Sub(at) > ownMemory || len(o.files) > maxOwn {
			delete(o.files, v)
		}
	}
}

func (o *Own) take(fd, pid int, now time.Time) {
	defer unix.Close(fd)
	if pid == os.Getpid() {
		return
	}
	if st, err := stat(fd); err == nil {
		o.files[version{st.Ino, st.Mtime.Nano()}] = now
	}
}

// wrote reports whether a file is as a program in the guest left it.
func (o *Own) wrote(st status) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.files[version{st.Ino, st.Mtime.Nano()}]
	return ok
}
