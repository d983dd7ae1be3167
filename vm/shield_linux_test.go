package vm

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"testing"
)

// TestStartShielded: the process is in a session of its own, and the signals of
// a session's end wait for ever; SIGKILL does not.
func TestStartShielded(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	if err := StartShielded(cmd); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`SigBlk:\s+([0-9a-f]+)`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no mask in %s", status)
	}
	mask, err := strconv.ParseUint(string(m[1]), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if mask&(1<<(sig-1)) == 0 {
			t.Errorf("%s is not blocked: %x", sig, mask)
		}
	}
	if sid, _, _ := syscall.Syscall(syscall.SYS_GETSID, uintptr(cmd.Process.Pid), 0, 0); int(sid) != cmd.Process.Pid {
		t.Errorf("session %d, want its own", sid)
	}

	// This thread and this process are as they were.
	own, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	if m := regexp.MustCompile(`SigBlk:\s+0*([0-9a-f]+)`).FindSubmatch(own); m == nil || string(m[1]) != "0" {
		t.Errorf("own mask %s", m)
	}
}
