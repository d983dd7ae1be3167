//go:build remote

package podman

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"
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
