package bootstrap

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestLockFile_Renamed: who waited for a file that was renamed meanwhile gets the
// lock of the one at its path.
func TestLockFile_Renamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.part")
	unlock, err := lockFile(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := tryLockFile(file); ok {
		t.Error("two hold one lock")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := lockFile(ctx, file); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v, want that the time is over", err)
	}

	second := make(chan error, 1)
	go func() {
		unlock, err := lockFile(t.Context(), file)
		if err == nil {
			defer unlock()
			_, err = os.Stat(file)
		}
		second <- err
	}()
	time.Sleep(20 * time.Millisecond) // either order is right; this one is the harder
	if err := os.Rename(file, file+".done"); err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := <-second; err != nil {
		t.Error(err)
	}
}

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
