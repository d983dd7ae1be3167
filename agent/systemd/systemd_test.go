package systemd

import (
	"slices"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/rockpool/rootvm/guest"
)

func TestParseStamp(t *testing.T) {
	for s, want := range map[string]time.Duration{
		dbus.MakeVariant(uint64(1500000)).String(): 1500 * time.Millisecond,
		dbus.MakeVariant(uint64(0)).String():       0,
		"7":                                        7 * time.Microsecond,
		"@t 9223372036854775807":                   -1,
		"-1":                                       -1,
		"":                                         -1,
		"soon":                                     -1,
	} {
		got, err := parseStamp(s)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("%q: %s, %v", s, got, err)
		}
	}
}

// TestUnits: each phase is the manager's or that of a unit, once.
func TestUnits(t *testing.T) {
	seen := []guest.Phase{guest.PhaseKernel, guest.PhaseInitrd}
	for _, u := range units {
		if slices.Contains(seen, u.phase) {
			t.Errorf("%s twice", u.phase)
		}
		seen = append(seen, u.phase)
	}
	for _, p := range guest.Phases() {
		if !slices.Contains(seen, p) {
			t.Errorf("%s has no source", p)
		}
	}
}
