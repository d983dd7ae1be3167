package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/rockpool/rootvm/agent"
)

// CreateWorkspace implements [agent.Workspaces].
func (c *ControlPlane) CreateWorkspace(ctx context.Context, n agent.NewWorkspace) (agent.Workspace, error) {
	if err := n.Validate(); err != nil {
		return agent.Workspace{}, err
	}
	if err := c.Accepting(); err != nil {
		return agent.Workspace{}, err
	}
	id, err := agent.NewID(c.cfg.Random)
	if err != nil {
		return agent.Workspace{}, err
	}
	c.tokens.put(id, n.Token) // before the job can begin

	var rec agent.Record
	err = c.update(ctx, func(ch *change) (err error) {
		rec, err = ch.InsertWorkspace(agent.Workspace{
			ID: id, Name: n.Name, Status: agent.StatusCreating, Image: cmp.Or(n.Image, agent.DefaultImage), Description: n.Description,
			RepositoryID: n.RepositoryID, AutoSyncPrefs: n.AutoSyncPrefs, CreatedAt: ch.now, UpdatedAt: ch.now,
		}, c.view.takenSlots())
		if err != nil {
			return err
		}
		ch.announce(rec)
		return ch.enqueue(agent.Job{Kind: agent.JobCreate, WorkspaceID: id})
	})
	if err != nil {
		c.tokens.forget(id)
		return agent.Workspace{}, err
	}
	return rec.Workspace, nil
}

// Workspace implements [agent.Workspaces].
func (c *ControlPlane) Workspace(ctx context.Context, id string) (agent.Workspace, error) {
	rec, err := c.record(ctx, id)
	return rec.Workspace, err
}

func (c *ControlPlane) record(ctx context.Context, id string) (rec agent.Record, err error) {
	err = c.cfg.Store.View(ctx, func(tx agent.Tx) (err error) {
		rec, err = tx.Workspace(id)
		return err
	})
	return rec, err
}

// WorkspaceByName implements [agent.Workspaces].
func (c *ControlPlane) WorkspaceByName(ctx context.Context, name string) (agent.Workspace, error) {
	id := c.routes.idOf(name)
	if id == "" {
		return agent.Workspace{}, agent.Errorf(agent.CodeNotFound, "Workspace %q not found", name)
	}
	return c.Workspace(ctx, id)
}

// ListWorkspaces implements [agent.Workspaces].
func (c *ControlPlane) ListWorkspaces(ctx context.Context, after agent.Cursor, limit int) ([]agent.Workspace, agent.Cursor, error) {
	limit = agent.PageSize(limit)
	var recs []agent.Record
	err := c.cfg.Store.View(ctx, func(tx agent.Tx) (err error) {
		recs, err = tx.Workspaces(after, limit+1) // one more tells whether there is a next page
		return err
	})
	if err != nil {
		return nil, agent.Cursor{}, err
	}
	var next agent.Cursor
	if len(recs) > limit {
		recs = recs[:limit]
		last := recs[limit-1]
		next = agent.Cursor{CreatedAt: last.CreatedAt, ID: last.ID}
	}
	page := make([]agent.Workspace, len(recs))
	for i, rec := range recs {
		page[i] = rec.Workspace
	}
	return page, next, nil
}

// StartWorkspace implements [agent.Workspaces].
func (c *ControlPlane) StartWorkspace(ctx context.Context, id string) (agent.Workspace, error) {
	return c.request(ctx, id, agent.Job{Kind: agent.JobStart})
}

// StopWorkspace implements [agent.Workspaces].
func (c *ControlPlane) StopWorkspace(ctx context.Context, id string) (agent.Workspace, error) {
	return c.request(ctx, id, agent.Job{Kind: agent.JobStop})
}

// request stores a job that a user asks for, and the state of the workspace
// that belongs to the job's kind. The state of the workspace must allow it.
func (c *ControlPlane) request(ctx context.Context, id string, job agent.Job) (agent.Workspace, error) {
	kind, ok := c.kinds.of(job.Kind)
	if !ok {
		return agent.Workspace{}, fmt.Errorf("request job: %w: %s", errUnknownKind, job.Kind)
	}
	if err := c.Accepting(); err != nil {
		return agent.Workspace{}, err
	}
	job.WorkspaceID = id
	var rec agent.Record
	err := c.update(ctx, func(ch *change) (err error) {
		if rec, err = ch.Workspace(id); err != nil {
			return err
		}
		if kind.during != "" {
			if err := agent.Transition(rec.Status, kind.during); err != nil {
				return err
			}
		}
		jobs, err := ch.liveJobs(id)
		if err != nil {
			return err
		}
		if c.kinds.anyRemoves(jobs) {
			return agent.Errorf(agent.CodeConflict, "Workspace %q is being deleted", rec.Name)
		}

		if err := c.makeWay(ch, jobs, kind); err != nil {
			return err
		}
		if kind.during != "" {
			rec.Status, rec.ErrorMessage, rec.Shortage = kind.during, "", agent.Shortage{}
			if err := ch.put(&rec); err != nil {
				return err
			}
		}
		return ch.enqueue(job)
	})
	return rec.Workspace, err
}

// makeWay ends the jobs of a workspace that end for one of a kind: those that
// wait go, the one that runs is told once all is stored.
func (c *ControlPlane) makeWay(ch *change, jobs []agent.Job, next jobKind) error {
	for _, j := range jobs {
		if !c.kinds.cancels(j, next) {
			continue
		}
		if j.State == agent.JobQueued {
			if err := ch.DeleteJob(j.ID); err != nil {
				return err
			}
			continue
		}
		ch.then = append(ch.then, func() { c.runner.interrupt(j.ID) })
	}
	return nil
}

// DeleteWorkspace implements [agent.Workspaces]. What goes on in a workspace
// that is being created ends: it would be for nothing. Asking twice is asking
// once.
func (c *ControlPlane) DeleteWorkspace(ctx context.Context, id string) error {
	if err := c.Accepting(); err != nil {
		return err
	}
	return c.update(ctx, func(ch *change) error {
		rec, err := ch.Workspace(id)
		if err != nil {
			return err
		}
		if err := rec.Status.Deletable(); err != nil {
			return err
		}
		jobs, err := ch.liveJobs(id)
		if err != nil || c.kinds.anyRemoves(jobs) {
			return err
		}

		kind, _ := c.kinds.of(agent.JobDelete)
		if err := c.makeWay(ch, jobs, kind); err != nil {
			return err
		}
		return ch.enqueue(agent.Job{Kind: agent.JobDelete, WorkspaceID: id})
	})
}

// Steps implements [agent.Workspaces].
func (c *ControlPlane) Steps(ctx context.Context, id string) (steps []agent.Step, err error) {
	err = c.cfg.Store.View(ctx, func(tx agent.Tx) error {
		if _, err := tx.Workspace(id); err != nil {
			return err
		}
		steps, err = tx.Steps(id)
		return err
	})
	return steps, err
}

// Usage implements [agent.Workspaces].
func (c *ControlPlane) Usage(ctx context.Context, id string) (agent.Usage, error) {
	rec, err := c.record(ctx, id)
	if err != nil {
		return agent.Usage{}, err
	}
	if rec.Status != agent.StatusRunning {
		return agent.Usage{}, notRunning(rec.Name, rec.Status)
	}
	return c.cfg.Observer.Usage(ctx, id)
}

// Logs implements [agent.Workspaces].
func (c *ControlPlane) Logs(ctx context.Context, id string, tail int, follow bool, w io.Writer) error {
	if _, err := c.record(ctx, id); err != nil {
		return err
	}
	return c.cfg.Observer.Logs(ctx, id, tail, follow, w)
}
