package bootstrap

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNeedSpace(t *testing.T) {
	if err := needSpace(t.TempDir(), 1, "x"); err != nil {
		t.Error(err)
	}
	err := needSpace(t.TempDir(), 1<<60, "set ROCKPOOL_CACHE")
	if err == nil || !strings.Contains(err.Error(), "set ROCKPOOL_CACHE") || !strings.Contains(err.Error(), "free and the build needs") {
		t.Errorf("error = %v", err)
	}
}

// TestSpaceForBuild: a full cache need not have room for all of itself again, and
// one that is not there yet is no fault.
func TestSpaceForBuild(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a", "file")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, make([]byte, 1<<20), 0o644)); err != nil {
		t.Fatal(err)
	}
	if got := held(dir); got < 1<<20 || got > 2<<20 {
		t.Errorf("held = %d", got)
	}
	if got := held(filepath.Join(dir, "none")); got != 0 {
		t.Errorf("held by nothing = %d", got)
	}
	there := SpaceForBuild(dir, dir)
	if got := SpaceForBuild(filepath.Join(dir, "not", "yet"), dir); (got == nil) != (there == nil) {
		t.Errorf("a cache that is not there: %v; one that is: %v", got, there)
	}
	if err := SpaceForBuild(dir, filepath.Join(dir, "none")); err == nil {
		t.Error("a checkout that is not there has space")
	}
}
