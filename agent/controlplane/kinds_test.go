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

// TestJobKinds_Superseded: for which jobs behind it a job ends, at each step.
func TestJobKinds_Superseded(t *testing.T) {
	table := knownKinds()
	const later = agent.JobKind("of a later release")
	for _, tt := range []struct {
		job    agent.JobKind
		state  agent.JobState
		step   string
		behind []agent.JobKind
		want   bool
	}{
		{agent.JobCreate, agent.JobLeased, agent.StepClone, nil, false},
		{agent.JobCreate, agent.JobLeased, agent.StepClone, []agent.JobKind{agent.JobStop}, true},
		{agent.JobStart, agent.JobLeased, agent.StepContainer, []agent.JobKind{agent.JobDelete}, true},
		{agent.JobStart, agent.JobQueued, "", []agent.JobKind{agent.JobStop, agent.JobDelete}, true},
		{agent.JobStart, agent.JobLeased, agent.StepStart, []agent.JobKind{agent.JobStart}, false},
		{agent.JobStart, agent.JobLeased, agent.StepStart, []agent.JobKind{later}, false},
		{agent.JobStop, agent.JobLeased, agent.StepPreferences, []agent.JobKind{agent.JobDelete}, false}, // what it saves is saved
		{agent.JobStop, agent.JobLeased, agent.StepStop, []agent.JobKind{agent.JobDelete}, true},
		{agent.JobStop, agent.JobLeased, agent.StepStop, []agent.JobKind{agent.JobStart}, false},
		{agent.JobDelete, agent.JobLeased, agent.StepRemove, []agent.JobKind{agent.JobDelete}, false},
		{later, agent.JobQueued, "", []agent.JobKind{agent.JobDelete}, true},
		{later, agent.JobLeased, "", []agent.JobKind{agent.JobDelete}, false},
	} {
		j := agent.Job{ID: "it", Kind: tt.job, State: tt.state, Step: tt.step}
		jobs := []agent.Job{{ID: "before", Kind: agent.JobDelete}, j}
		for _, kind := range tt.behind {
			jobs = append(jobs, agent.Job{ID: string(kind), Kind: kind, State: agent.JobQueued})
		}
		if got := table.superseded(j, jobs); got != tt.want {
			t.Errorf("%s, %s at %q, behind it %q: %v", tt.job, tt.state, tt.step, tt.behind, got)
		}
	}
}
