package builders_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rockpool/rootvm/builders"
)

// TestLockFile_Renamed: who waited for a file that was renamed meanwhile gets the
// lock of the one at its path.
func TestLockFile_Renamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.part")
	unlock, err := builders.LockFile(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := builders.TryLockFile(file); ok {
		t.Error("two hold one lock")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := builders.LockFile(ctx, file); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v, want that the time is over", err)
	}

	second := make(chan error, 1)
	go func() {
		unlock, err := builders.LockFile(t.Context(), file)
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
