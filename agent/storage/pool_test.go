package storage_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/storage"
)

const (
	ownImage = "sha256:00000000000000000000000000000000000000000000000000000000000000aa"
	first    = 100000 + agent.SlotSize // id in the VM of id 0 in slot 0
	account  = 990
	mega     = 1 << 20
	giga     = 1 << 30
)

// newPool returns a pool on a data disk of its own, an ext4 in a file, and the
// directory where that is mounted.
func newPool(t testing.TB, size int64) (p *storage.Pool, data string) {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	makeDisk(t, disk, size)
	return poolOn(t, disk, dir)
}

// makeDisk makes a data disk as the VM has it.
func makeDisk(t testing.TB, disk string, size int64) {
	t.Helper()
	run(t, "truncate", "-s", strconv.FormatInt(size, 10), disk)
	run(t, "mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", disk)
}

// needRoot skips a test that cannot mount file systems.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount file systems: run the tests as root")
	}
	for _, program := range []string{"mkfs.ext4", "mkfs.btrfs"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is missing: install e2fsprogs and btrfs-progs")
		}
	}
}

// poolOn returns a pool on a data disk that is there, below dir.
func poolOn(t testing.TB, disk, dir string) (p *storage.Pool, data string) {
	t.Helper()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // for users of containers
		t.Fatal(err)
	}
	data = filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-o", "loop,discard,noatime", disk, data)
	t.Cleanup(func() { unmountDisk(t, data) })

	p = &storage.Pool{
		Dir:        filepath.Join(data, "workspaces"),
		RunDir:     filepath.Join(dir, "run"),
		Image:      filepath.Join(dir, "image"),
		Containers: filepath.Join(data, "containers"),
		SubUIDs:    filepath.Join(dir, "subuid"),
		User:       "rockpool",
		Account:    account,
	}
	t.Cleanup(func() { unmountBelow(t, p.Dir) })
	makeImage(t, p.Image)
	write(t, p.SubUIDs, "rockpool:100000:16842752\n")
	return p, data
}

// unmountDisk unmounts a data disk as soon as no loop device has a file of it,
// unless it was unmounted before.
func unmountDisk(t testing.TB, data string) {
	t.Helper()
	awaitTrue(t, "the data disk to be free", func() bool {
		err := unix.Unmount(data, 0)
		return err == nil || errors.Is(err, unix.EINVAL)
	})
}

// makeImage makes a small image as the VM has one.
func makeImage(t testing.TB, dir string) {
	t.Helper()
	write(t, dir+"/digest", ownImage+"\n")
	write(t, dir+"/rootfs/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
	write(t, dir+"/rootfs/etc/fstab", "nothing\n")
	write(t, dir+"/rootfs/home/admin/.profile", "umask 022\n")
	for _, d := range []string{"/rootfs/home/admin", "/rootfs/home/admin/.profile"} {
		if err := os.Chown(dir+d, 1000, 1001); err != nil {
			t.Fatal(err)
		}
	}
}

// unmountBelow unmounts everything below a directory, the innermost first, and
// waits until the devices are free.
func unmountBelow(t testing.TB, dir string) {
	t.Helper()
	mounts := mountsBelow(t, dir)
	slices.Reverse(mounts)
	for _, m := range mounts {
		run(t, "umount", m)
	}
}

// mountsBelow are the mount points below a directory.
func mountsBelow(t testing.TB, dir string) (mounts []string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if at := strings.Fields(line)[4]; strings.HasPrefix(at, dir+"/") {
			mounts = append(mounts, at)
		}
	}
	return mounts
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// testID is the id of the nth workspace.
func testID(n int) string {
	s := strconv.Itoa(n)
	return strings.Repeat("0", 25-len(s)) + s
}

// files of the nth workspace, in the slot n.
func files(n int, quota int64) agent.Files {
	return agent.Files{ID: testID(n), Slot: n, Image: ownImage, Quota: quota}
}

func open(t testing.TB, s agent.Storage, f agent.Files) agent.FilesView {
	t.Helper()
	view, err := s.Open(t.Context(), f, func(text string) { t.Log(text) })
	if err != nil {
		t.Fatal(err)
	}
	return view
}

func closeFiles(t testing.TB, s agent.Storage, id string) {
	t.Helper()
	if err := s.Close(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

// owner is who owns a file.
func owner(t testing.TB, file string) (uid, gid uint32) {
	t.Helper()
	st, err := os.Lstat(file)
	if err != nil {
		t.Fatal(err)
	}
	s := st.Sys().(*syscall.Stat_t)
	return s.Uid, s.Gid
}

// as runs a script as a user and group of a slot, who knows nothing of others.
func as(t testing.TB, slot, uid int, dir, script string) (string, error) {
	t.Helper()
	c := exec.Command("/bin/sh", "-c", script)
	c.Dir = dir
	id := uint32(100000 + (slot+1)*agent.SlotSize + uid)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	out, err := c.CombinedOutput()
	return string(out), err
}

// asRoot has f make files as root of a slot's containers, but with all privileges.
func asRoot(slot int, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good
		id := first + slot*agent.SlotSize
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		err := errors.Join(unix.Capget(&header, &sets[0]), unix.Setfsgid(id), unix.Setfsuid(id), unix.Capset(&header, &sets[0]))
		if err != nil {
			panic(err)
		}
		f()
	}()
	<-done
}

// TestPool_Open shows the image with the ids of a slot and what was written over
// it, after a reboot too.
func TestPool_Open(t *testing.T) {
	p, _ := newPool(t, 4*giga)
	f := files(3, giga)
	view := open(t, p, f)
	id := uint32(first + 3*agent.SlotSize)
	if uid, gid := owner(t, view.Root+"/etc/passwd"); uid != id || gid != id {
		t.Errorf("the image's file belongs to %d:%d, want %d", uid, gid, id)
	}
	if uid, gid := owner(t, view.Home); uid != id+1000 || gid != id+1001 {
		t.Errorf("the home directory belongs to %d:%d, want %d:%d", uid, gid, id+1000, id+1001)
	}
	if got := read(t, view.Home+"/.profile"); got != "umask 022\n" {
		t.Errorf(".profile: %q", got)
	}

	if out, err := as(t, 3, 0, view.Root, "echo new >etc/passwd && rm etc/fstab && mkdir opt && echo x >opt/x"); err != nil {
		t.Fatalf("root of the container: %v: %s", err, out)
	}
	if out, err := as(t, 3, 1000, view.Home, "echo mine >mine && ./mine 2>/dev/null; ln mine again && mkdir -p a/b && mv a c"); err != nil {
		t.Fatalf("user of the container: %v: %s", err, out)
	}
	if out, err := as(t, 4, 1000, view.Home, "echo theirs >mine"); err == nil {
		t.Errorf("the user of another slot wrote: %s", out)
	}

	for range 2 { // as it is, and after a reboot
		again := open(t, p, f)
		if again != view {
			t.Errorf("view %v, then %v", view, again)
		}
		if got := read(t, view.Root+"/etc/passwd"); got != "new\n" {
			t.Errorf("passwd: %q", got)
		}
		if _, err := os.Lstat(view.Root + "/etc/fstab"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("fstab, which was deleted: %v", err)
		}
		if uid, _ := owner(t, view.Home+"/mine"); uid != id+1000 {
			t.Errorf("mine belongs to %d", uid)
		}
		unmountBelow(t, p.Dir)
	}
	open(t, p, f)
	if uid, _ := owner(t, p.Dir+"/pool/files/"+f.ID+"/home/upper/mine"); uid != 1000 {
		t.Errorf("mine is stored as %d, want 1000", uid)
	}
	closeFiles(t, p, f.ID)
	closeFiles(t, p, f.ID)
	if left := mountsBelow(t, p.Dir+"/open"); left != nil {
		t.Errorf("left after closing: %q", left)
	}
	open(t, p, f)
	if got := read(t, view.Home+"/mine"); got != "mine\n" {
		t.Errorf("mine: %q", got)
	}
}

// TestPool_Open_refuses files of another slot or image, and what is no request.
func TestPool_Open_refuses(t *testing.T) {
	p, _ := newPool(t, 4*giga)
	open(t, p, files(1, giga))
	other := "sha256:" + strings.Repeat("b", 64)
	for name, tt := range map[string]struct {
		f    agent.Files
		code string
	}{
		"slot":         {agent.Files{ID: testID(1), Slot: 2, Image: ownImage, Quota: giga}, agent.CodeConflict},
		"image":        {agent.Files{ID: testID(1), Slot: 1, Image: other, Quota: giga}, agent.CodeConflict},
		"no image":     {agent.Files{ID: testID(2), Slot: 2, Image: other, Quota: giga}, agent.CodeNotFound},
		"a path":       {agent.Files{ID: "../" + testID(1)[3:], Slot: 1, Image: ownImage, Quota: giga}, agent.CodeValidation},
		"no slot":      {agent.Files{ID: testID(2), Slot: 256, Image: ownImage, Quota: giga}, agent.CodeValidation},
		"no quota":     {agent.Files{ID: testID(2), Slot: 2, Image: ownImage}, agent.CodeValidation},
		"image a path": {agent.Files{ID: testID(2), Slot: 2, Image: "sha256:../../etc", Quota: giga}, agent.CodeValidation},
	} {
		if _, err := p.Open(t.Context(), tt.f, nil); agent.ErrorCode(err) != tt.code {
			t.Errorf("%s: %v, want %s", name, err, tt.code)
		}
	}
	u, err := p.Usage(t.Context())
	if err != nil || len(u.Files) != 1 {
		t.Errorf("made %+v, %v", u.Files, err)
	}
}

// fill writes, as root of a slot's containers, until nothing can be written any
// more, and returns how much that was and why it ended.
func fill(slot int, file string) (size int64, err error) {
	asRoot(slot, func() { size, err = fillFile(file) })
	return size, err
}

func fillFile(file string) (int64, error) {
	f, err := os.Create(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := bytes.Repeat([]byte("rockpool"), mega/8)
	var size int64
	for {
		n, err := f.Write(block)
		size += int64(n)
		if err == nil && size%(64*mega) == 0 {
			err = f.Sync()
		}
		if err != nil {
			return size, err
		}
	}
}

// TestPool_quota fills home and layer of a workspace, which hinders no other, and
// can be closed, opened, emptied and given more.
func TestPool_quota(t *testing.T) {
	t.Run("simple", func(t *testing.T) { testQuota(t, func(*storage.Pool) {}) })
	t.Run("ordinary", func(t *testing.T) { testQuota(t, (*storage.Pool).UseOrdinaryQuotas) })
}

func testQuota(t *testing.T, set func(*storage.Pool)) {
	p, _ := newPool(t, 4*giga)
	set(p)
	small := files(1, 100*mega)
	view, other := open(t, p, small), open(t, p, files(2, giga))

	inHome, err := fill(1, view.Home+"/full")
	if !errors.Is(err, unix.EDQUOT) {
		t.Fatalf("the home directory took %d MB: %v", inHome/mega, err)
	}
	if inHome > 100*mega {
		t.Errorf("the home directory took %d MB of 100", inHome/mega)
	}
	if n, err := fill(1, view.Root+"/full"); !errors.Is(err, unix.EDQUOT) || n > 8*mega {
		t.Errorf("the layer took %d MB on top: %v", n/mega, err)
	}
	asRoot(1, func() {
		for n := range 100000 { // what is left for small files
			if err := os.WriteFile(view.Home+"/small"+strconv.Itoa(n), []byte("x"), 0o600); err != nil {
				break
			}
		}
	})
	if n, err := fill(2, other.Home+"/much"); !errors.Is(err, unix.EDQUOT) || n < 900*mega {
		t.Errorf("the other workspace took %d MB of a gigabyte: %v", n/mega, err)
	}

	for range 2 {
		closeFiles(t, p, small.ID)
		unmountBelow(t, p.Dir)
		open(t, p, small)
	}
	u, err := p.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(u.Files, func(f agent.FilesUsage) bool { return f.ID == small.ID })
	if i < 0 || u.Files[i].Files != small || !u.Files[i].Open || u.Files[i].Used < 90*mega || u.Files[i].Used > 110*mega {
		t.Errorf("usage %+v", u.Files)
	}
	if u.Size < 2*giga || u.Free > u.Size-giga {
		t.Errorf("size %d MB, free %d MB", u.Size/mega, u.Free/mega)
	}

	if err := p.SetQuota(t.Context(), small.ID, 200*mega); err != nil {
		t.Fatal(err)
	}
	asRoot(1, func() {
		if err := os.WriteFile(view.Home+"/more", make([]byte, 50*mega), 0o600); err != nil {
			t.Errorf("with a larger quota: %v", err)
		}
	})
	if err := p.SetQuota(t.Context(), small.ID, 20*mega); err != nil {
		t.Fatal(err)
	}
	if n, err := fill(1, view.Home+"/less"); !errors.Is(err, unix.EDQUOT) || n > mega {
		t.Errorf("with a smaller quota: %d, %v", n, err)
	}
	for _, name := range []string{"/full", "/more"} {
		if err := os.Remove(view.Home + name); err != nil {
			t.Errorf("delete from a full workspace: %v", err)
		}
	}
	if err := p.SetQuota(t.Context(), testID(9), giga); agent.ErrorCode(err) != agent.CodeNotFound {
		t.Errorf("quota of nothing: %v", err)
	}
}

// TestPool_Remove deletes files and their quota, and frees the disk below.
func TestPool_Remove(t *testing.T) {
	p, data := newPool(t, 4*giga)
	f := files(1, 2*giga)
	view := open(t, p, f)
	asRoot(1, func() {
		if err := os.WriteFile(view.Home+"/much", bytes.Repeat([]byte("rockpool"), 64*mega), 0o600); err != nil {
			t.Error(err)
		}
	})
	run(t, "sync", "-f", view.Home)
	if err := p.Remove(t.Context(), f.ID); agent.ErrorCode(err) != agent.CodeConflict {
		t.Errorf("remove while open: %v", err)
	}
	closeFiles(t, p, f.ID)
	before := used(t, data)
	for range 2 {
		if err := p.Remove(t.Context(), f.ID); err != nil {
			t.Fatal(err)
		}
	}
	awaitTrue(t, "the space to be free", func() bool { return used(t, data) < before-400*mega })
	open(t, p, files(1, giga))
	if _, err := os.Lstat(view.Home + "/much"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a new workspace of the same id has the old one's files: %v", err)
	}
}

// used is how much of the data disk is taken, in bytes.
func used(t testing.TB, data string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(data, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// TestPool_Close names who holds what is to be closed.
func TestPool_Close(t *testing.T) {
	p, _ := newPool(t, 4*giga)
	f := files(1, giga)
	view := open(t, p, f)
	c := exec.Command("sleep", "1000")
	c.Dir = view.Home
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	want := "sleep (" + strconv.Itoa(c.Process.Pid) + ")"
	err := p.Close(t.Context(), f.ID)
	if agent.ErrorCode(err) != agent.CodeConflict || !strings.Contains(err.Error(), want) {
		t.Errorf("close: %v, want %s", err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Close(ctx, f.ID); err == nil {
		t.Error("closed all the same")
	}

	go func() { _ = c.Process.Kill() }() // one that is just ending is waited for
	if err := p.Close(t.Context(), f.ID); err != nil {
		t.Error(err)
	}
	_ = c.Wait()
	if err := p.Close(t.Context(), testID(9)); err != nil {
		t.Errorf("close what is not there: %v", err)
	}
}

// awaitTrue waits for something that comes by itself.
func awaitTrue(t testing.TB, what string, is func() bool) {
	t.Helper()
	limit := time.NewTimer(3 * time.Minute)
	defer limit.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-limit.C:
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

// TestPool_quota_requests has a workspace ask btrfs for subvolumes and snapshots of
// its own, which its quota would not count.
func TestPool_quota_requests(t *testing.T) {
	p, _ := newPool(t, 4*giga)
	view := open(t, p, files(1, giga))
	const create, snapshot = 0x5000940e, 0x50009401 // BTRFS_IOC_SUBVOL_CREATE, BTRFS_IOC_SNAP_CREATE
	for _, dir := range []string{view.Home, view.Root} {
		asRoot(1, func() {
			f, err := os.Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			var args [4096]byte // the descriptor of what a snapshot is of, and a name
			args[0] = byte(f.Fd())
			copy(args[8:], "mine")
			for _, request := range []uintptr{create, snapshot} {
				_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&args)))
				if errno == 0 {
					t.Errorf("%s: request %x was done", dir, request)
				}
			}
		})
	}
	if made, err := filepath.Glob(p.Dir + "/pool/files/*/*/upper/mine"); err != nil || made != nil {
		t.Errorf("made %q, %v", made, err)
	}
}

// TestPool_size leaves a reserve on the disk below, and follows when that grows.
func TestPool_size(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	makeDisk(t, disk, 12*giga)
	size := func(sub string) int64 {
		p, data := poolOn(t, disk, filepath.Join(dir, sub))
		u, err := p.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var below unix.Statfs_t
		if err := unix.Statfs(data, &below); err != nil {
			t.Fatal(err)
		}
		if left := int64(below.Blocks)*below.Bsize - u.Size; left < 2*giga || left > 2*giga+512*mega {
			t.Errorf("the pool of %d MB leaves %d MB", u.Size/mega, left/mega)
		}
		unmountBelow(t, p.Dir)
		unmountDisk(t, data)
		return u.Size
	}
	before := size("before")
	run(t, "truncate", "-s", "20G", disk)
	run(t, "e2fsck", "-fy", disk)
	run(t, "resize2fs", disk)
	if after := size("after"); after < before+7*giga {
		t.Errorf("the pool has %d MB on a disk of 12 GB and %d on one of 20", before/mega, after/mega)
	}
}

// TestPool_Remove_quotas leaves no quota of what was deleted.
func TestPool_Remove_quotas(t *testing.T) {
	for name, set := range map[string]func(*storage.Pool){"simple": func(*storage.Pool) {}, "ordinary": (*storage.Pool).UseOrdinaryQuotas} {
		t.Run(name, func(t *testing.T) {
			p, _ := newPool(t, 4*giga)
			set(p)
			for n := range 3 {
				f := files(n, giga)
				open(t, p, f)
				closeFiles(t, p, f.ID)
				if err := p.Remove(t.Context(), f.ID); err != nil {
					t.Fatal(err)
				}
			}
			source := strings.TrimSpace(run(t, "findmnt", "-no", "SOURCE", p.Dir+"/pool"))
			groups, err := filepath.Glob("/sys/fs/btrfs/*/devices/" + filepath.Base(source))
			if err != nil || len(groups) != 1 {
				t.Fatalf("the pool in sysfs: %q, %v", groups, err)
			}
			dir := filepath.Dir(filepath.Dir(groups[0])) + "/qgroups"
			awaitTrue(t, "the quotas to be gone", func() bool {
				if err := p.Remove(t.Context(), testID(1)); err != nil { // looks for them again
					t.Fatal(err)
				}
				left, err := filepath.Glob(dir + "/0_[0-9][0-9][0-9]*")
				return err == nil && len(left) == 0
			})
		})
	}
}

// TestPool_full fills the whole pool from two workspaces whose quotas allow that.
// They can be closed, opened, emptied and deleted all the same.
func TestPool_full(t *testing.T) {
	p, data := newPool(t, 2*giga)
	one, two := files(1, 4*giga), files(2, 4*giga)
	open(t, p, two)
	view := open(t, p, one)
	if n, err := fill(1, view.Home+"/full"); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("it took %d MB: %v", n/mega, err)
	}
	asRoot(1, func() {
		for n := range 100000 { // what is left for small files
			if err := os.WriteFile(view.Home+"/small"+strconv.Itoa(n), make([]byte, 2000), 0o600); err != nil {
				break
			}
		}
	})
	write(t, data+"/database", strings.Repeat("x", 100*mega)) // in the reserve
	run(t, "sync", "-f", data)

	closeFiles(t, p, one.ID)
	closeFiles(t, p, two.ID)
	unmountBelow(t, p.Dir)
	open(t, p, one)
	open(t, p, two)
	if u, err := p.Usage(t.Context()); err != nil || u.Free > 16*mega {
		t.Errorf("free %d MB, %v", u.Free/mega, err)
	}
	closeFiles(t, p, two.ID)
	if err := p.Remove(t.Context(), two.ID); err != nil {
		t.Errorf("delete a workspace: %v", err)
	}
	if err := p.SetQuota(t.Context(), one.ID, giga); err != nil {
		t.Errorf("set a quota: %v", err)
	}
	for n := range 10 {
		if err := os.Remove(view.Home + "/small" + strconv.Itoa(n)); err != nil {
			t.Fatalf("delete a file: %v", err)
		}
	}
	if err := os.Remove(view.Home + "/full"); err != nil {
		t.Fatalf("delete a file: %v", err)
	}
	if err := p.SetQuota(t.Context(), one.ID, 4*giga); err != nil {
		t.Errorf("set a quota: %v", err)
	}
	awaitTrue(t, "room", func() (is bool) {
		asRoot(1, func() { is = os.WriteFile(view.Home+"/again", make([]byte, mega), 0o600) == nil })
		return is
	})
	open(t, p, two)
}
