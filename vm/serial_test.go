package vm

import (
	"strings"
	"testing"

	"github.com/rockpool/rootvm/guest"
)

// TestClean_NothingATerminalObeys feeds what a hostile guest may write.
func TestClean_NothingATerminalObeys(t *testing.T) {
	hostile := "a\x1b]0;title\x07b\x1b[2Jc\u009b31md\x00e\rf\tg"
	if got, want := cleanLine(hostile), "a]0;titlebc31mdef\tg"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	var b strings.Builder
	for _, part := range []string{"x\x1b", "[2Jy\n"} { // cut in two
		if n, err := (cleanWriter{&b}).Write([]byte(part)); err != nil || n != len(part) {
			t.Errorf("wrote %d, %v", n, err)
		}
	}
	if got, want := b.String(), "x[2Jy\n"; got != want {
		t.Errorf("stream %q, want %q", got, want)
	}
}

func TestState_PhasesAreBounded(t *testing.T) {
	var s State
	for i := range 10 * guest.MaxPhases {
		s.phase(guest.Phase(strings.Repeat("x", i)), 1)
	}
	if len(s.Phases) != guest.MaxPhases {
		t.Errorf("%d phases kept", len(s.Phases))
	}
}
