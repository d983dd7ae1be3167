package controlplane

import (
	"slices"

	"github.com/rockpool/rootvm/agent"
)

// jobKind is all that the control plane knows of one kind of jobs. A new kind
// is a constant in package agent, a row of [knownKinds], its steps, and the
// request that enqueues it; nothing else asks which kind a job is of.
type jobKind struct {
	name agent.JobKind

	// during is the state of the workspace from the request to the job's end;
	// "" leaves the state as it is. A workspace that is found in this state
	// without a job gets one: the first kind of the table that has it.
	during agent.Status

	// leadsTo is the state of the workspace once the job has arrived; "" when
	// that is the state from before, or the row is gone.
	leadsTo agent.Status

	provisions bool // leads to a workspace whose container runs: its end is watched from then on
	removes    bool // ends with the row: from the request on nothing else may be asked of the workspace

	// steps lists the steps but the last one, which every job has: the
	// transaction that calls arrive. Each ensures something, so that the first
	// attempt, a retry and the recovery after a crash are one path.
	steps func(*attempt) []jobStep

	// arrive stores what the job was for, in the transaction that ends it.
	arrive func(*attempt, *change) error

	// cancel reports whether a job of this kind, at its present step, ends for
	// one that was asked for after it: waiting, it is dropped; running, its
	// attempt is ended at once. What it leaves the next job takes as it finds
	// it.
	cancel func(j agent.Job, next jobKind) bool
}

// knownKinds is the table of the kinds.
func knownKinds() jobKinds {
	return jobKinds{
		{
			name: agent.JobCreate, during: agent.StatusCreating, leadsTo: agent.StatusRunning, provisions: true,
			steps: (*attempt).provisionSteps, arrive: (*attempt).arriveRunning, cancel: forAnEnd,
		},
		{
			name: agent.JobStart, during: agent.StatusCreating, leadsTo: agent.StatusRunning, provisions: true,
			steps: (*attempt).provisionSteps, arrive: (*attempt).arriveRunning, cancel: forAnEnd,
		},
		{
			name: agent.JobStop, during: agent.StatusStopping, leadsTo: agent.StatusStopped,
			steps: (*attempt).stopSteps, arrive: (*attempt).arriveStopped, cancel: forRemoval,
		},
		{
			name: agent.JobDelete, removes: true,
			steps: (*attempt).deleteSteps, arrive: (*attempt).arriveGone, cancel: never,
		},
	}
}

// forAnEnd is for what is on its way to a running workspace: it is for nothing
// once the workspace is to stop or to go.
func forAnEnd(_ agent.Job, next jobKind) bool { return !next.provisions }

// forRemoval is for a stop: the files that it saves before are saved also for
// who deletes the workspace, but its processes end with the removal anyway.
func forRemoval(j agent.Job, next jobKind) bool {
	return next.removes && (j.State == agent.JobQueued || j.Step == agent.StepStop)
}

// never is for what nothing comes after.
func never(agent.Job, jobKind) bool { return false }

// jobKinds is a table of kinds.
type jobKinds []jobKind

// of returns a kind by its name; ok is false for one of another release.
func (t jobKinds) of(name agent.JobKind) (k jobKind, ok bool) {
	return t.first(func(k jobKind) bool { return k.name == name })
}

// during returns the kind that ends a state in which a workspace does not
// stay; ok is false for states in which it stays.
func (t jobKinds) during(s agent.Status) (k jobKind, ok bool) {
	return t.first(func(k jobKind) bool { return k.during == s })
}

// leadingTo returns the kind that brings a workspace into a state.
func (t jobKinds) leadingTo(s agent.Status) (k jobKind, ok bool) {
	return t.first(func(k jobKind) bool { return k.leadsTo == s })
}

func (t jobKinds) first(is func(jobKind) bool) (k jobKind, ok bool) {
	i := slices.IndexFunc(t, is)
	if i < 0 {
		return jobKind{}, false
	}
	return t[i], true
}

// anyRemoves reports whether one of the jobs ends with the row of its
// workspace.
func (t jobKinds) anyRemoves(jobs []agent.Job) bool {
	return slices.ContainsFunc(jobs, func(j agent.Job) bool {
		k, ok := t.of(j.Kind)
		return ok && k.removes
	})
}

// provisioning lists the kinds that lead to a running workspace.
func (t jobKinds) provisioning() (names []agent.JobKind) {
	for _, k := range t {
		if k.provisions {
			names = append(names, k.name)
		}
	}
	return names
}

// cancels reports whether a job ends for one of a kind that was asked for
// after it. Work that only another release knows ends for a removal.
func (t jobKinds) cancels(j agent.Job, next jobKind) bool {
	k, ok := t.of(j.Kind)
	if !ok {
		return next.removes && j.State == agent.JobQueued
	}
	return k.cancel(j, next)
}

// superseded reports whether a job ends for one behind it, of the jobs of its
// workspace.
func (t jobKinds) superseded(j agent.Job, jobs []agent.Job) bool {
	behind := false
	for _, other := range jobs {
		next, ok := t.of(other.Kind)
		if behind && ok && t.cancels(j, next) {
			return true
		}
		behind = behind || other.ID == j.ID
	}
	return false
}
