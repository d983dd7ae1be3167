package controlplane

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// writer is the only way to write the store: one transaction at a time.
// Routes, followers and the runner learn of a transaction when, and only when,
// it is committed, so they see changes in the order of commits.
type writer struct {
	store  agent.Store
	clock  func() time.Time
	random io.Reader
	routes *routeTable
	events *hub

	previews agent.Previews // whose sockets and handles are released with their workspace

	writing  chan struct{}   // held by whoever writes the store
	sleepers []chan struct{} // each receives when there may be a job to do; fixed before the first update
}

func newWriter(cfg Config, life string) *writer {
	return &writer{
		store: cfg.Store, clock: cfg.Now, random: cfg.Random,
		routes: newRouteTable(), events: newHub(life, cfg.Log), previews: cfg.Previews,
		writing: make(chan struct{}, 1),
	}
}

// wakes returns a channel that receives when there may be a job to do. It is
// asked for before the first update.
func (w *writer) wakes() <-chan struct{} {
	ch := make(chan struct{}, 1)
	w.sleepers = append(w.sleepers, ch)
	return ch
}

// wakeAll makes all look that wait for jobs.
func (w *writer) wakeAll() {
	for _, ch := range w.sleepers {
		wakeUp(ch)
	}
}

// now is the time as it can be stored.
func (w *writer) now() time.Time { return w.clock().UTC().Truncate(time.Millisecond) }

// update runs f in a write transaction and then announces what f changed.
func (w *writer) update(ctx context.Context, f func(*change) error) error {
	select {
	case w.writing <- struct{}{}:
		defer func() { <-w.writing }()
	case <-ctx.Done():
		return fmt.Errorf("wait to write: %w", ctx.Err())
	}

	ch := &change{now: w.now(), random: w.random}
	err := w.store.Update(ctx, func(tx agent.Tx) error {
		ch.Tx = tx
		return f(ch)
	})
	if err != nil {
		return err
	}

	w.routes.change(ch.apply)
	w.forgetPreviews(ch.events)
	w.events.publish(ch.now, ch.events)
	for _, f := range ch.then {
		f()
	}
	if ch.jobs {
		w.wakeAll()
	}
	return nil
}

// forgetPreviews releases those of workspaces that do not run any more. Nothing
// leads to them by now, so none begins anew.
func (w *writer) forgetPreviews(events []agent.Event) {
	for _, e := range events {
		if e.Kind == agent.EventDeleted || e.Workspace != nil && e.Workspace.Status != agent.StatusRunning {
			w.previews.Forget(e.WorkspaceID)
		}
	}
}

// wakeUp makes the loop look that sleeps on a channel.
func wakeUp(loop chan<- struct{}) {
	select {
	case loop <- struct{}{}:
	default: // it is about to look
	}
}

// sleep waits until d is over, wake receives, or ctx ends, and reports
// whether ctx lives.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// change is an open write transaction that remembers what it does, for those
// who learn of it once it is committed.
type change struct {
	agent.Tx
	now    time.Time
	random io.Reader

	apply  []func(*routeTable)
	events []agent.Event
	jobs   bool     // there is a job to do
	then   []func() // what else is done once it is committed
}

// put stores what changed in a workspace.
func (ch *change) put(rec *agent.Record) error {
	rec.UpdatedAt = ch.now
	if err := ch.UpdateWorkspace(*rec); err != nil {
		return err
	}
	ch.announce(*rec)
	return nil
}

// announce announces a row that was stored.
func (ch *change) announce(rec agent.Record) {
	w := rec.Workspace
	ch.apply = append(ch.apply, func(t *routeTable) { t.put(w) })
	ch.events = append(ch.events, agent.Event{Kind: agent.EventWorkspace, WorkspaceID: w.ID, Workspace: &w})
}

// remove deletes a workspace.
func (ch *change) remove(id string) error {
	if err := ch.DeleteWorkspace(id); err != nil {
		return err
	}
	ch.apply = append(ch.apply, func(t *routeTable) { t.remove(id) })
	ch.events = append(ch.events, agent.Event{Kind: agent.EventDeleted, WorkspaceID: id})
	return nil
}

// portsChanged announces the ports of a workspace as they are stored now.
func (ch *change) portsChanged(id string) error {
	ports, err := ch.Ports(id)
	if err != nil {
		return err
	}
	ch.apply = append(ch.apply, func(t *routeTable) { t.setPorts(id, ports) })
	ch.events = append(ch.events, agent.Event{Kind: agent.EventPort, WorkspaceID: id})
	return nil
}

// forgetPorts deletes a workspace's ports.
func (ch *change) forgetPorts(id string) error {
	if err := ch.DeletePorts(id); err != nil {
		return err
	}
	return ch.portsChanged(id)
}

// putStep stores a step.
func (ch *change) putStep(s agent.Step) error {
	if err := ch.PutStep(s); err != nil {
		return err
	}
	ch.events = append(ch.events, agent.Event{Kind: agent.EventStep, WorkspaceID: s.WorkspaceID, Step: &s})
	return nil
}

// enqueue stores a job that is due. Its kind, workspace and payload are the
// caller's to set, the rest is set here.
func (ch *change) enqueue(j agent.Job) error {
	id, err := agent.NewID(ch.random)
	if err != nil {
		return err
	}
	ch.jobs = true
	j.ID, j.State, j.RunAt, j.CreatedAt, j.UpdatedAt = id, agent.JobQueued, ch.now, ch.now, ch.now
	return ch.InsertJob(j)
}

// liveJobs are a workspace's jobs that are not parked.
func (ch *change) liveJobs(id string) ([]agent.Job, error) {
	jobs, err := ch.Jobs(id)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(jobs, func(j agent.Job) bool { return j.State == agent.JobParked }), nil
}

// everything is a limit for lists that has no effect.
const everything = math.MaxInt32
