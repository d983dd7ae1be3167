package replay_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// The stand-in for a share is FUSE, whose kernel side is that of virtiofs, with
// the times that virtiofsd gives what the kernel may remember, and like it with
// an open file for whatever the kernel knows. The events of what is done on the
// host's side do not cross it.

// shareEnv makes this test's program the server of such a file system.
const shareEnv = "ROCKPOOL_TEST_SHARE"

func TestMain(m *testing.M) {
	if dirs := os.Getenv(shareEnv); dirs != "" {
		host, mount, _ := strings.Cut(dirs, "\n")
		if err := serveShare(host, mount); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// node is a file of the host that stays open while the kernel knows it.
type node struct {
	fs.LoopbackNode
	fd int
}

func (n *node) Getattr(ctx context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if n.fd < 0 { // more files than this process may have open
		return n.LoopbackNode.Getattr(ctx, f, out)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(n.fd, "", &st, unix.AT_EMPTY_PATH); err != nil {
		return fs.ToErrno(err)
	}
	converted := syscall.Stat_t{
		Dev: st.Dev, Ino: st.Ino, Nlink: st.Nlink, Mode: st.Mode, Uid: st.Uid, Gid: st.Gid, Size: st.Size, Blksize: st.Blksize, Blocks: st.Blocks,
		Atim: syscall.Timespec(st.Atim), Mtim: syscall.Timespec(st.Mtim), Ctim: syscall.Timespec(st.Ctim),
	}
	out.FromStat(&converted)
	return 0
}

func (n *node) OnForget() { _ = unix.Close(n.fd) }

// serveShare serves until standard input ends.
func serveShare(host, mount string) error {
	fd, err := unix.Open(host, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var st syscall.Stat_t
	if err := syscall.Stat(host, &st); err != nil {
		return err
	}
	root := &fs.LoopbackRoot{Path: host, Dev: st.Dev}
	//lint:ignore SA1019 what replaces it is not told the name
	root.NewNode = func(data *fs.LoopbackRoot, parent *fs.Inode, name string, _ *syscall.Stat_t) fs.InodeEmbedder {
		n := &node{LoopbackNode: fs.LoopbackNode{RootData: data}, fd: -1}
		n.fd, _ = unix.Open(filepath.Join(host, parent.Path(nil), name), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return n
	}
	second := time.Second
	server, err := fs.Mount(mount, &node{LoopbackNode: fs.LoopbackNode{RootData: root}, fd: fd}, &fs.Options{
		EntryTimeout: &second, AttrTimeout: &second,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, AllowOther: true, FsName: "share", Name: "share"},
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
		return err
	}
	_ = server
	return nil
}

// share is a directory on both sides.
type share struct{ host, guest string }

// mountShare mounts one until the test ends.
func mountShare(t testing.TB) share {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a file system")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("needs /dev/fuse: ", err)
	}
	s := share{t.TempDir(), t.TempDir()}
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), shareEnv+"="+s.host+"\n"+s.guest)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the share's server: %v", err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Skip("needs FUSE: ", err)
	}
	return s
}

// raw hears the kernel's events in one directory and in all that are below it
// when it begins.
type raw struct {
	file *os.File
	mu   sync.Mutex
	dirs map[int32]string
	seen map[string]uint32 // by path relative to the root
	more chan struct{}
}

// listen hears everything from now on.
func listen(t testing.TB, root string) *raw {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	r := &raw{file: os.NewFile(uintptr(fd), "inotify"), dirs: map[int32]string{}, seen: map[string]uint32{}, more: make(chan struct{}, 1)}
	t.Cleanup(func() { _ = r.file.Close() })
	err = filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		return r.add(p, rel)
	})
	if err != nil {
		t.Fatal(err)
	}
	go r.read()
	return r
}

// add hears what is at a path, too.
func (r *raw) add(p, rel string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	raw, err := r.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var wd int
		wd, failed = unix.InotifyAddWatch(int(fd), p, unix.IN_ALL_EVENTS&^(unix.IN_ACCESS|unix.IN_OPEN|unix.IN_CLOSE_NOWRITE))
		r.dirs[int32(wd)] = rel
	})
	return errors.Join(err, failed)
}

func (r *raw) read() {
	buf := make([]byte, 256<<10)
	for {
		n, err := r.file.Read(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			wd, what := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
			length := binary.NativeEndian.Uint32(b[12:])
			name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+length]), "\x00")
			b = b[unix.SizeofInotifyEvent+length:]
			r.seen[filepath.Join(r.dirs[wd], name)] |= what
		}
		r.mu.Unlock()
		select {
		case r.more <- struct{}{}:
		default:
		}
	}
}

// saw waits until all of these events were seen of a path.
func (r *raw) saw(t testing.TB, path string, what uint32) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		got := r.seen[path]
		r.mu.Unlock()
		if got&what == what {
			return
		}
		select {
		case <-r.more:
		case <-late:
			t.Fatalf("%s: %#x, want %#x", path, got, what)
		}
	}
}

// forget begins anew.
func (r *raw) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.seen)
}

// all returns what was seen.
func (r *raw) all() map[string]uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	copied := map[string]uint32{}
	for k, v := range r.seen {
		copied[k] = v
	}
	return copied
}
