package controlplane

import (
	"context"

	"github.com/rockpool/rootvm/agent"
)

// memoryQuantum is what limits of the memory are whole multiples of, in bytes:
// the kernel takes pages, whose size differs.
const memoryQuantum = 1 << 20

// capacity is what all workspaces have together. What cannot be read now is 0,
// not known, and limits nothing.
func (c *ControlPlane) capacity(ctx context.Context) agent.Capacity {
	shared, err := c.cfg.Memory.SharedMemory(ctx)
	if err != nil {
		c.cfg.Log.Warn("the memory for workspaces is not known", "err", err)
	}
	usage, _, err := c.lookAtDisk(ctx)
	if err != nil {
		usage = agent.StorageUsage{}
	}
	return agent.Capacity{Memory: shared.Limit, Disk: usage.Size}
}

// Limits implements [agent.Workspaces].
func (c *ControlPlane) Limits(ctx context.Context, id string) (agent.LimitState, error) {
	rec, err := c.record(ctx, id)
	if err != nil {
		return agent.LimitState{}, err
	}
	return c.limitState(ctx, c.capacity(ctx), rec.ID, rec.Limits), nil
}

// limitState explains limits of a workspace, with what its files take.
func (c *ControlPlane) limitState(ctx context.Context, capacity agent.Capacity, id string, l agent.Limits) agent.LimitState {
	state := capacity.State(l)
	if f, ok := c.filesOf(ctx, id); ok {
		state.DiskUsed = &f.Used
	}
	return state
}

// SetLimits implements [agent.Workspaces]. What was stored before the runtime
// or the disk refused it holds from the next start.
func (c *ControlPlane) SetLimits(ctx context.Context, id string, l agent.Limits) (agent.LimitState, error) {
	capacity := c.capacity(ctx)
	if err := capacity.Validate(l); err != nil {
		return agent.LimitState{}, err
	}
	l.Memory -= l.Memory % memoryQuantum

	var was agent.Limits
	err := c.update(ctx, func(ch *change) error {
		rec, err := ch.Workspace(id)
		if err != nil {
			return err
		}
		was, rec.Limits = rec.Limits, l
		return ch.put(&rec)
	})
	if err != nil {
		return agent.LimitState{}, err
	}

	limits := capacity.Of(l)
	if was.Memory != l.Memory {
		if err := c.cfg.Memory.SetMemory(ctx, id, limits.Memory); err != nil { // the page tells what holds
			c.cfg.Log.Info("the memory of a workspace changes with its next start", "workspace", id, "err", err)
		}
	}
	if err := c.setQuota(ctx, id, limits.Disk); err != nil {
		return agent.LimitState{}, err
	}
	return c.limitState(ctx, capacity, id, l), nil
}

// setQuota gives the files of a workspace another quota, also one that they are
// above. Without files there is none yet.
func (c *ControlPlane) setQuota(ctx context.Context, id string, quota int64) error {
	defer c.disk.changed()
	err := c.cfg.Storage.SetQuota(ctx, id, quota)
	if agent.ErrorCode(err) == agent.CodeNotFound {
		return nil
	}
	return err
}
