package vm

import (
	"testing"
)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"8G": 8 * GiB, "8g": 8 * GiB, "8GiB": 8 * GiB, "512M": 512 * MiB, "1.5G": 3 * GiB / 2, "4096": 4096, " 2T ": 2048 * GiB,
		"": -1, "G": -1, "-1G": -1, "8X": -1, "99999999999T": -1, "NaN": -1,
	} {
		got, err := ParseSize(in)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	f.Add("8G")
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); err == nil && n < 0 {
			t.Errorf("ParseSize(%q) = %d", s, n)
		}
	})
}

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
