package controlplane

import (
	"testing"

	"github.com/rockpool/rootvm/agent"
)

// TestKnownKinds: the table has a whole row for every kind of the domain, and
// no other, and the states that a kind passes follow each other.
func TestKnownKinds(t *testing.T) {
	table := knownKinds()
	if len(table) != len(agent.JobKinds()) {
		t.Errorf("%d rows for %d kinds", len(table), len(agent.JobKinds()))
	}
	for _, name := range agent.JobKinds() {
		k, ok := table.of(name)
		if !ok {
			t.Errorf("%s has no row", name)
			continue
		}
		if k.steps == nil || k.arrive == nil || k.cancel == nil {
			t.Errorf("%s: the row is not whole", name)
		}
		if k.during != "" && k.leadsTo != "" && agent.Transition(k.during, k.leadsTo) != nil {
			t.Errorf("%s: a workspace cannot go from %s to %s", name, k.during, k.leadsTo)
		}
		if k.removes && (k.leadsTo != "" || k.provisions) || k.provisions && k.leadsTo != agent.StatusRunning {
			t.Errorf("%s: the row contradicts itself: %+v", name, k)
		}
	}

	// A workspace never stays in these states.
	for _, s := range []agent.Status{agent.StatusCreating, agent.StatusStopping} {
		if _, ok := table.during(s); !ok {
			t.Errorf("no kind ends the state %s", s)
		}
	}
	if k, ok := table.leadingTo(agent.StatusStopped); !ok || k.name != agent.JobStop {
		t.Errorf("to stopped leads %+v, %v", k, ok)
	}
}
