package vm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestKeepSupervisor(t *testing.T) {
	source, dir := filepath.Join(t.TempDir(), "rockpool"), t.TempDir()
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(source, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	keep := func() os.FileInfo {
		t.Helper()
		if err := keepSupervisor(dir, []string{source, "supervise"}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, supervisorProgram))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("mode %v", info.Mode())
		}
		return info
	}
	if _, err := keptSupervisor(dir); err == nil {
		t.Error("something is kept before")
	}

	write(strings.Repeat("one", 1<<20))
	first := keep()
	if argv, err := keptSupervisor(dir); err != nil || !slices.Equal(argv, []string{filepath.Join(dir, "supervisor"), "supervise"}) {
		t.Errorf("%q, %v", argv, err)
	}
	if again := keep(); !os.SameFile(first, again) {
		t.Error("an identical program was copied again")
	}
	write(strings.Repeat("one", 1<<20-1) + "two") // differs at its end only
	second := keep()
	if os.SameFile(first, second) {
		t.Error("another program was not copied")
	}
	if err := os.Chmod(filepath.Join(dir, supervisorProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	keep()

	os.Remove(source)
	if err := keepSupervisor(dir, []string{source}); err == nil {
		t.Error("a missing program was kept")
	}
	if b, err := os.ReadFile(filepath.Join(dir, supervisorProgram)); err != nil || !strings.HasSuffix(string(b), "two") {
		t.Errorf("the program of before is gone: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
