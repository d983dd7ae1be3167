package agent_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/guest"
)

func TestBootRecord(t *testing.T) {
	var r agent.BootRecord
	events, more := r.Since(0)
	if len(events) != 0 {
		t.Fatalf("events: %v", events)
	}
	first := agent.BootEvent{Phase: guest.PhaseKernel, At: time.Second}
	if !r.Add(first) || r.Add(agent.BootEvent{Phase: guest.PhaseKernel, At: 2 * time.Second}) {
		t.Error("a phase must be news once")
	}
	select {
	case <-more:
	default:
		t.Error("nobody was told")
	}
	r.Add(agent.BootEvent{Failed: agent.FailedUnit{Unit: "a.service"}})
	r.Add(agent.BootEvent{Failed: agent.FailedUnit{Unit: "b.service"}})
	r.Add(agent.BootEvent{Ready: true})
	if events, _ := r.Since(0); len(events) != 4 || events[0] != first {
		t.Errorf("events: %v", events)
	}
	if events, _ := r.Since(9); len(events) != 0 {
		t.Errorf("events after the last: %v", events)
	}
}

func TestErrorCode(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("x"), agent.CodeInternal},
		{fmt.Errorf("op: %w", agent.Errorf(agent.CodeConflict, "x")), agent.CodeConflict},
	} {
		if got := agent.ErrorCode(tt.err); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}
