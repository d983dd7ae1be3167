package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestOrphans_bySymbolicLink finds what runs in a directory, however that is
// reached.
func TestOrphans_bySymbolicLink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "601.5")
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	plan := Plan{Processes: []Command{{Name: "sleep", Argv: []string{"sleep", "601.5"}}}}
	for _, path := range []string{dir, link} {
		if found := orphans(path, plan); len(found) != 1 || found[0].PID != cmd.Process.Pid {
			t.Errorf("in %s: %+v, want pid %d", path, found, cmd.Process.Pid)
		}
	}
	if found := orphans(t.TempDir(), plan); len(found) != 0 {
		t.Errorf("elsewhere: %+v", found)
	}
}
