package controlplane

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// change is an open write transaction that remembers what it does, so that
// routes and followers learn of it when, and only when, it is committed.
type change struct {
	agent.Tx
	now    time.Time
	apply  []func(*routeTable)
	events []agent.Event
	jobs   bool     // there is a job to do
	then   []func() // what else is done once it is committed
}

// update runs f in a write transaction and then tells what it changed. Writes
// are one after the other, so routes and events are in the order of commits.
func (c *ControlPlane) update(ctx context.Context, f func(*change) error) error {
	select {
	case c.writing <- struct{}{}:
		defer func() { <-c.writing }()
	case <-ctx.Done():
		return fmt.Errorf("wait to write: %w", ctx.Err())
	}
	ch := &change{now: c.now()}
	err := c.cfg.Store.Update(ctx, func(tx agent.Tx) error {
		ch.Tx = tx
		return f(ch)
	})
	if err != nil {
		return err
	}
	c.routes.change(ch.apply)
	c.events.publish(ch.now, ch.events)
	for _, f := range ch.then {
		f()
	}
	if ch.jobs {
		wakeUp(c.wake)
	}
	return nil
}

// wakeUp makes the loop look that sleeps on a channel.
func wakeUp(loop chan<- struct{}) {
	select {
	case loop <- struct{}{}:
	default: // it is about to look
	}
}

// put stores what changed in a workspace.
func (ch *change) put(rec *agent.Record) error {
	rec.UpdatedAt = ch.now
	if err := ch.UpdateWorkspace(*rec); err != nil {
		return err
	}
	ch.tell(*rec)
	return nil
}

// tell announces a row that was stored.
func (ch *change) tell(rec agent.Record) {
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

// step stores a step.
func (ch *change) step(s agent.Step) error {
	if err := ch.PutStep(s); err != nil {
		return err
	}
	ch.events = append(ch.events, agent.Event{Kind: agent.EventStep, WorkspaceID: s.WorkspaceID, Step: &s})
	return nil
}

// enqueue stores a job that is due.
func (c *ControlPlane) enqueue(ch *change, kind agent.JobKind, workspaceID string) error {
	id, err := agent.NewID(c.cfg.Random)
	if err != nil {
		return err
	}
	ch.jobs = true
	return ch.InsertJob(agent.Job{
		ID: id, Kind: kind, WorkspaceID: workspaceID, State: agent.JobQueued,
		RunAt: ch.now, CreatedAt: ch.now, UpdatedAt: ch.now,
	})
}

// liveJobs are a workspace's jobs that are not parked.
func (ch *change) liveJobs(id string) ([]agent.Job, error) {
	jobs, err := ch.Jobs(id)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(jobs, func(j agent.Job) bool { return j.State == agent.JobParked }), nil
}

func isDelete(j agent.Job) bool { return j.Kind == agent.JobDelete }

// secrets are the tokens of clones that are not done, by workspace. They are
// nowhere else.
type secrets struct {
	mu     sync.Mutex
	tokens map[string]string
}

func (s *secrets) put(id, token string) {
	if token == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens == nil {
		s.tokens = map[string]string{}
	}
	s.tokens[id] = token
}

func (s *secrets) get(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens[id]
}

func (s *secrets) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, id)
}

// scrub removes the workspace's token from a text.
func (s *secrets) scrub(id, text string) string {
	if token := s.get(id); token != "" {
		return strings.ReplaceAll(text, token, "***")
	}
	return text
}

// everything is a limit for lists that has no effect.
const everything = math.MaxInt32
