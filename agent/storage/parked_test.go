package storage_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// parksAs names what a process of these tests calls itself that parks its first
// thread in a mount namespace.
const parksAs = "ROCKPOOL_TEST_PARKS_AS"

// init parks the first thread, which is its own only here.
func init() {
	name := os.Getenv(parksAs)
	if name == "" {
		return
	}
	runtime.LockOSThread()
	b := append([]byte(name), 0)
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&b[0])), 0, 0, 0); err != nil {
		panic(err)
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		panic(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		panic(err)
	}
	fmt.Println("parked")
	_ = unix.Pause()
}

// park starts a process whose first thread keeps what is mounted now.
func park(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), parksAs+"="+name)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "parked\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return c
}

// TestPool_Close_parked: Podman's service that keeps files by a thread that it has
// no use for is ended; whatever else keeps them is named.
func TestPool_Close_parked(t *testing.T) {
	p, _ := newPool(t, 4*giga)
	p.Account = 0 // of who runs the tests
	f := files(1, giga)
	open(t, p, f)
	podman := park(t, "podman")
	closeFiles(t, p, f.ID)
	if err := podman.Wait(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("what kept the files ended with %v", err)
	}

	open(t, p, f)
	other := park(t, "other")
	err := p.Close(t.Context(), f.ID)
	if agent.ErrorCode(err) != agent.CodeConflict || !strings.Contains(err.Error(), fmt.Sprintf("other (%d)", other.Process.Pid)) {
		t.Errorf("while another program keeps the files: %v", err)
	}
	if err := other.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("the other program: %v", err)
	}
}

// TestPool_Open_complete: what Podman needs in a root is there whatever its user
// did, and nothing outside of it is touched.
func TestPool_Open_complete(t *testing.T) {
	p, data := newPool(t, 4*giga)
	f := files(2, giga)
	view := open(t, p, f)
	outside := data + "/outside"
	if err := os.Mkdir(outside, 0o777); err != nil {
		t.Fatal(err)
	}

	for _, did := range []struct{ what, script, at string }{
		{"nothing", "true", "/etc/mtab"},
		{"deletes the link", "rm etc/mtab", "/etc/mtab"},
		{"has a file there", "rm etc/mtab; echo mine >etc/mtab", "/etc/mtab"},
		{"deletes the directory", "rm -r etc", "/etc/mtab"},
		{"leads the directory elsewhere", "rm -r etc; mkdir -p elsewhere; ln -s /elsewhere etc", "/elsewhere/mtab"},
		{"fills the disk", "rm -f elsewhere/mtab; dd if=/dev/zero of=full bs=1M 2>/dev/null; true", "/elsewhere/mtab"},
	} {
		if out, err := as(t, 2, 0, view.Root, did.script); err != nil {
			t.Fatalf("%s: %v: %s", did.what, err, out)
		}
		open(t, p, f)
		if uid, _ := owner(t, view.Root+did.at); uid != first+2*agent.SlotSize {
			t.Errorf("%s: the table of mounts belongs to %d", did.what, uid)
		}
	}

	if out, err := as(t, 2, 0, view.Root, "rm full; sync; rm etc; ln -s "+outside+" etc"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := p.Open(t.Context(), f, func(string) {}); err == nil {
		t.Error("the directory leads to nothing in the root, and it is open")
	}
	if names, err := os.ReadDir(outside); err != nil || len(names) != 0 {
		t.Errorf("outside: %v, %v", names, err)
	}
}
