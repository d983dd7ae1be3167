package agent_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/rockpool/rootvm/agent"
)

const gib = 1 << 30

func TestCapacity_Defaults(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    agent.Capacity
		want agent.Limits
	}{
		{"large", agent.Capacity{Memory: 64 * gib, Disk: 500e9}, agent.Limits{Memory: 4 * gib, Disk: 20e9}},
		{"small", agent.Capacity{Memory: 3 * gib, Disk: 40e9}, agent.Limits{Memory: 3 * gib, Disk: 10e9}},
		{"not known", agent.Capacity{}, agent.Limits{Memory: 4 * gib, Disk: 20e9}},
	} {
		if got := tt.c.Defaults(); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
		if got := tt.c.Of(agent.Limits{}); got != tt.want {
			t.Errorf("%s, nothing set: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestCapacity_Of: what was set for a larger VM is capped, not lost.
func TestCapacity_Of(t *testing.T) {
	set := agent.Limits{Memory: 8 * gib, Disk: 200e9}
	if got := (agent.Capacity{Memory: 16 * gib, Disk: 500e9}).Of(set); got != set {
		t.Errorf("%+v, want %+v", got, set)
	}
	c := agent.Capacity{Memory: 3 * gib, Disk: 100e9}
	if got, want := c.Of(set), (agent.Limits{Memory: 3 * gib, Disk: 100e9}); got != want {
		t.Errorf("in a small VM: %+v, want %+v", got, want)
	}
	if s := c.State(set); s.Set != set || s.Memory != (agent.LimitRange{Limit: 3 * gib, Default: 3 * gib, Min: agent.MinMemory, Max: 3 * gib}) {
		t.Errorf("state: %+v", s)
	}
}

func TestCapacity_Validate(t *testing.T) {
	c := agent.Capacity{Memory: 3 * gib, Disk: 100 * gib}
	for _, tt := range []struct {
		name   string
		l      agent.Limits
		faults []string
	}{
		{"defaults", agent.Limits{}, nil},
		{"least", agent.Limits{Memory: agent.MinMemory, Disk: agent.MinDisk}, nil},
		{"most", agent.Limits{Memory: 3 * gib, Disk: 100 * gib}, nil},
		{"less", agent.Limits{Memory: agent.MinMemory - 1, Disk: agent.MinDisk - 1}, []string{"memoryBytes", "diskBytes"}},
		{"more", agent.Limits{Memory: 3*gib + 1, Disk: 100*gib + 1}, []string{"memoryBytes", "diskBytes"}},
		{"negative", agent.Limits{Memory: -1}, []string{"memoryBytes"}},
	} {
		err := c.Validate(tt.l)
		var faults []string
		if e, ok := errors.AsType[*agent.Error](err); ok && e.Code == agent.CodeValidation {
			for _, f := range e.Fields {
				faults = append(faults, f.Path)
			}
		}
		if (err != nil) != (tt.faults != nil) || !slices.Equal(faults, tt.faults) {
			t.Errorf("%s: %v, want faults of %q", tt.name, err, tt.faults)
		}
	}
	if err := (agent.Capacity{}).Validate(agent.Limits{Memory: 1 << 50}); err != nil {
		t.Errorf("what is not known limits nothing: %v", err)
	}
}
