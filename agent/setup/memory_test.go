package setup

import (
	"strings"
	"testing"
)

// TestSetup_limitMemory: the slice of the workspaces is limited by what this
// boot's kernel has, and a kernel that does not say is a fault.
func TestSetup_limitMemory(t *testing.T) {
	const file = "run/systemd/user/workspaces.slice.d/50-memory.conf"
	g := newGuest(t)
	must(t, g.run())
	if got, want := g.read(file), "[Slice]\nMemoryMax=3154116608\n"; got != want { // 3008 MiB
		t.Errorf("%q, want %q", got, want)
	}
	g.write("proc/meminfo", "MemTotal:       16374000 kB\n")
	must(t, g.run())
	if got, want := g.read(file), "[Slice]\nMemoryMax=15032385536\n"; got != want { // 14336 MiB
		t.Errorf("after a boot with more: %q, want %q", got, want)
	}
	for _, bad := range []string{"", "MemTotal: x kB\n", "MemTotal: -1 kB\n", "MemFree: 1 kB\n"} {
		g.write("proc/meminfo", bad)
		if err := g.run(); err == nil || !strings.Contains(err.Error(), "memory: no MemTotal") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
