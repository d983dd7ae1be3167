//go:build remote

package podman

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

func TestWaitProcess(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := waitProcess(ctx, pid); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it runs: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- waitProcess(t.Context(), pid) }()
	select {
	case err := <-ended:
		t.Errorf("the wait was over before the process: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil { // it is a zombie still
		t.Errorf("when it ended: %v", err)
	}
	_ = cmd.Wait()
	if err := waitProcess(t.Context(), pid); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestOpenProcess: the number of a process that is not the container's any more
// opens nothing.
func TestOpenProcess(t *testing.T) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	own, unified := strings.CutPrefix(strings.TrimSpace(string(b)), "0::")
	if !unified {
		t.Skip("there is no unified cgroup hierarchy")
	}
	f, err := openProcess(os.Getpid(), own)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}, 0); n != 0 || err != nil {
		t.Errorf("the process has ended: %d, %v", n, err)
	}
	for _, cgroup := range []string{"", "/libpod-of-another.scope", own + "x"} {
		if f, err := openProcess(os.Getpid(), cgroup); err == nil {
			_ = f.Close()
			t.Errorf("a process in %q was opened as one in %q", own, cgroup)
		}
	}

	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := openProcess(cmd.Process.Pid, own); agent.ErrorCode(err) != agent.CodeConflict {
		t.Errorf("a process that has ended: %v", err)
	}
}
