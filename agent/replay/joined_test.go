package replay_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent/replay"
	"github.com/rockpool/rootvm/guest"
)

// TestShare_NoEcho: a save is raised once, and what the guest does about it is
// no change.
func TestShare_NoEcho(t *testing.T) {
	t.Parallel()
	s := mountShare(t)
	write(t, "before", s.host, "f")
	know(t, s.guest)
	j := join(t, s, nil)
	for i := range 2 {
		write(t, fmt.Sprint("after ", i), s.host, "f")
		j.settle(t)
		time.Sleep(2500 * time.Millisecond)
	}
	do(t, os.Mkdir(filepath.Join(s.host, "d"), 0o755))
	write(t, "new", s.host, "d/new")
	j.settle(t)
	sent := j.watcher.Report().Sent
	time.Sleep(2500 * time.Millisecond)
	if f := j.count("f"); f != 2 {
		t.Errorf("2 saves were raised %d times", f)
	}
	if now := j.watcher.Report().Sent; now != sent || sent > 5 { // the new file perhaps both empty and written
		t.Errorf("%d changes were sent of 4, then %d", sent, now)
	}
}

// TestShare_Own: what a program in the guest writes is not raised again.
func TestShare_Own(t *testing.T) {
	own, err := replay.NewOwn()
	if err != nil {
		t.Skip("needs fanotify: ", err)
	}
	t.Cleanup(func() { _ = own.Close() })
	s := mountShare(t)
	write(t, "before", s.host, "f")
	write(t, "before", s.host, "g")
	know(t, s.guest)
	j := join(t, s, own)
	write(t, "the host's", s.host, "f") // from here on it is known what the guest writes
	j.settle(t)

	guestWrite := func(content string, path ...string) {
		t.Helper()
		do(t, shell(t, `printf %s "$2" > "$1"`, filepath.Join(path...), content).Run())
	}
	guestWrite("the guest's", s.guest, "g")
	guestWrite("the guest's", s.guest, ".new")
	do(t, os.Rename(filepath.Join(s.guest, ".new"), filepath.Join(s.guest, "replaced")))
	j.settle(t)
	if f, g, r := j.count("f"), j.count("g"), j.count("replaced"); f == 0 || g != 0 || r != 0 {
		t.Errorf("raised: the host's %d times, the guest's %d and %d; %+v", f, g, r, j.watcher.Report())
	}
	write(t, "the host's again", s.host, "g")
	j.settle(t)
	if j.count("g") == 0 {
		t.Error("the host's write after the guest's was not raised")
	}
}

// TestShare_Busy: a file that changes a thousand times a second keeps the time
// of its last change, which is told. Where writing begins again just while the
// guest raises the last event, the time before may be seen for a moment.
func TestShare_Busy(t *testing.T) {
	s := mountShare(t)
	path := filepath.Join(s.host, "log")
	write(t, "", s.host, "log")
	know(t, s.guest)
	j := join(t, s, nil)
	var last unix.Timespec
	back := 0
	const pauses = 12
	for range pauses { // also with pauses, after which the next change is told at once
		for range 300 {
			var st unix.Stat_t
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			do(t, err, unix.Stat(path, &st))
			if before(st.Mtim, last) {
				back++
			}
			_, err = f.WriteString("line\n")
			do(t, err, unix.Fstat(int(f.Fd()), &st), f.Close())
			last = st.Mtim
			time.Sleep(time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
	}
	j.settle(t)
	var st unix.Stat_t
	do(t, unix.Stat(path, &st))
	if before(st.Mtim, last) {
		t.Errorf("in the end its time is %v, it was written at %v", st.Mtim, last)
	}
	if back > pauses {
		t.Errorf("its time was set back %d times of %d", back, 300*pauses)
	}
	if n := j.count("log"); n < 5 || n > 30 {
		t.Errorf("raised %d times", n)
	}
}

func before(a, b unix.Timespec) bool { return a.Nano() < b.Nano() }

// TestShare_Burst: ten thousand files at once, over a guest that is started
// anew in the middle.
func TestShare_Burst(t *testing.T) {
	s := mountShare(t)
	j := join(t, s, nil)
	for i := range 10000 {
		p := filepath.Join(fmt.Sprint("d", i%97), fmt.Sprint("f", i))
		do(t, os.MkdirAll(filepath.Join(s.host, filepath.Dir(p)), 0o755))
		write(t, "x", s.host, p)
		if i == 5000 {
			j.hangUp()
			j.connect(t)
		}
	}
	j.settle(t)
	for i := range 10000 {
		if p := filepath.Join(fmt.Sprint("d", i%97), fmt.Sprint("f", i)); j.count(p) == 0 {
			t.Fatalf("%s was not raised; %+v", p, j.watcher.Report())
		}
	}
}

// TestReplayer_Inside: no path leads out of the share, whatever a program in
// the guest makes of it.
func TestReplayer_Inside(t *testing.T) {
	s := mountShare(t)
	outside := t.TempDir()
	write(t, "secret", outside, "f")
	var was unix.Stat_t
	do(t, unix.Stat(filepath.Join(outside, "f"), &was), os.Symlink(outside, filepath.Join(s.guest, "dir")), os.Symlink(filepath.Join(outside, "f"), filepath.Join(s.guest, "link")))
	r := (&replay.Replayer{Dir: s.guest}).Touched(func(string) {})
	time.Sleep(10 * time.Millisecond)
	for _, c := range changes("dir/f", "link", "dir") {
		r.Replay(c)
	}
	var is unix.Stat_t
	do(t, unix.Stat(filepath.Join(outside, "f"), &is))
	if is.Ctim != was.Ctim {
		t.Error("a file outside of the share was touched")
	}
}

// changes are batches of one change each, of every kind, for each path.
func changes(paths ...string) (list [][]guest.FileChange) {
	for _, p := range paths {
		for _, op := range []guest.FileOp{guest.FileCreated, guest.FileModified, guest.FileDeleted} {
			for _, busy := range []bool{false, true} {
				list = append(list, []guest.FileChange{{Op: op, Path: p, Busy: busy, ModTime: time.Now().UnixNano()}})
			}
		}
	}
	return list
}

// shell is a command in another process than this test's, whose writes are not
// the replayer's own.
func shell(t testing.TB, script string, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(t.Context(), "sh", append([]string{"-c", script, "sh"}, args...)...)
}
