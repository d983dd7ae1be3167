package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/client"
)

// comeBack is how long to wait before a stream of events is opened again, and
// patience how long an agent that went away may take to come back.
const (
	comeBack = 500 * time.Millisecond
	patience = time.Minute
)

// await waits until a workspace is in a state that it stays in, and returns
// it, or nil when it is gone. step is told every step meanwhile.
func await(ctx context.Context, c *client.Client, id string, step func(agent.Step)) (*agent.Workspace, error) {
	return watch(ctx, c, id, step, func(w agent.Workspace) bool {
		return w.Status != agent.StatusCreating && w.Status != agent.StatusStopping
	})
}

// awaitGone waits until a workspace is gone, which is nil, or its deletion
// failed. found is the workspace before the deletion was asked for: until that
// has failed, the row stays as it is, and may be in error already.
func awaitGone(ctx context.Context, c *client.Client, found agent.Workspace, step func(agent.Step)) (*agent.Workspace, error) {
	return watch(ctx, c, found.ID, step, func(w agent.Workspace) bool {
		return w.Status == agent.StatusError && w.ErrorMessage != "" && !w.UpdatedAt.Equal(found.UpdatedAt)
	})
}

// watch follows a workspace until done says so. An agent that restarts
// meanwhile is waited for.
func watch(ctx context.Context, c *client.Client, id string, step func(agent.Step), done func(agent.Workspace) bool) (*agent.Workspace, error) {
	f := follower{client: c, id: id, step: step, done: done}
	seen := time.Now()
	for {
		over, err := f.follow(ctx)
		switch {
		case over:
			return f.last, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil:
			seen = time.Now()
		case !errors.Is(err, client.ErrUnreachable) || time.Since(seen) > patience:
			return nil, err
		}

		t := time.NewTimer(comeBack)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
}

// follower follows one workspace over several streams.
type follower struct {
	client *client.Client
	id     string
	step   func(agent.Step)
	done   func(agent.Workspace) bool

	lastID string
	last   *agent.Workspace
	told   map[agent.Step]bool
}

// tell passes a step on, once in each of its states.
func (f *follower) tell(step agent.Step) {
	if f.told[step] {
		return
	}
	if f.told == nil {
		f.told = map[agent.Step]bool{}
	}
	f.told[step] = true
	f.step(step)
}

// follow reads one stream. over says that there is nothing more to wait for.
func (f *follower) follow(ctx context.Context) (over bool, err error) {
	for e, err := range f.client.Events(ctx, f.lastID) {
		if err != nil {
			return false, err
		}
		if over, err := f.event(ctx, e); over || err != nil {
			return over, err
		}
		f.lastID = e.ID
	}
	return false, nil
}

// event understands one event.
func (f *follower) event(ctx context.Context, e client.Event) (over bool, err error) {
	if e.Reset {
		w, err := f.client.Workspace(ctx, f.id)
		if agent.ErrorCode(err) == agent.CodeNotFound {
			f.last = nil
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("look at the workspace: %w", err)
		}
		// What was done before the stream began is told, too.
		steps, err := f.client.Steps(ctx, f.id)
		if err != nil && agent.ErrorCode(err) != agent.CodeNotFound {
			return false, fmt.Errorf("look at the workspace's steps: %w", err)
		}
		for _, step := range steps {
			f.tell(step)
		}
		f.last = &w
		return f.done(w), nil
	}

	if e.WorkspaceID != f.id {
		return false, nil
	}

	switch {
	case e.Kind == agent.EventDeleted:
		f.last = nil
		return true, nil
	case e.Step != nil:
		f.tell(*e.Step)
	case e.Workspace != nil:
		f.last = e.Workspace
		return f.done(*e.Workspace), nil
	}

	return false, nil
}
