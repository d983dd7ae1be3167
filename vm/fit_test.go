package vm

import (
	"testing"
)

func TestConfig_Fit(t *testing.T) {
	tests := []struct {
		name               string
		host               Resources
		memory, cpus       bool // asked for
		wantMemory         int64
		wantCPUs, wantSaid int
	}{
		{"large host", Resources{64 * GiB, 16}, false, false, 8 * GiB, 4, 0},
		{"small host", Resources{8 * GiB, 2}, false, false, 6 * GiB, 2, 2},
		{"tiny host", Resources{2 * GiB, 1}, false, false, GiB, 1, 2},
		{"asked for", Resources{4 * GiB, 2}, true, true, 8 * GiB, 4, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{Memory: 8 * GiB, CPUs: 4}
			notes := c.Fit(tt.host, tt.memory, tt.cpus)
			if c.Memory != tt.wantMemory || c.CPUs != tt.wantCPUs || len(notes) != tt.wantSaid {
				t.Errorf("got %s, %d cpus, notes %q", Bytes(c.Memory), c.CPUs, notes)
			}
		})
	}
}

func TestHostResources(t *testing.T) {
	r, err := HostResources()
	if err != nil || r.Memory < 64*MiB || r.CPUs < 1 {
		t.Errorf("got %+v, %v", r, err)
	}
}
