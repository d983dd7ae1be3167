package bootstrap

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestCache_Lock_Inherited: the cache stays locked as long as a process that
// inherited the lock runs.
func TestCache_Lock_Inherited(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	first, err := c.Lock(t.Context(), func() { t.Error("nobody else uses the cache") })
	if err != nil {
		t.Fatal(err)
	}
	heir := exec.Command("sleep", "600")
	heir.ExtraFiles = []*os.File{first}
	if err := heir.Start(); err != nil {
		t.Fatal(err)
	}
	first.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	waited := false
	if _, err := c.Lock(ctx, func() { waited = true }); !errors.Is(err, context.DeadlineExceeded) || !waited {
		t.Errorf("error = %v, waited = %v, want to wait for the process", err, waited)
	}
	_ = heir.Process.Kill()
	_ = heir.Wait()
	again, err := c.Lock(t.Context(), func() {})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
