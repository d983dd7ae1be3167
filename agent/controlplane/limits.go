package controlplane

import (
	"context"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// capacityAge is how long the size of the disk is taken as known: it changes
// with a boot.
const capacityAge = time.Minute

// memoryQuantum is what limits of the memory are whole multiples of, in bytes:
// the kernel takes pages, whose size differs.
const memoryQuantum = 1 << 20

// diskSize is the size of the disk for workspaces, as it was looked up last.
type diskSize struct {
	mu    sync.Mutex
	bytes int64
	at    time.Time
}

// capacity is what all workspaces have together. What cannot be read now is 0,
// not known, and limits nothing.
func (c *ControlPlane) capacity(ctx context.Context) agent.Capacity {
	shared, err := c.cfg.Memory.SharedMemory(ctx)
	if err != nil {
		c.cfg.Log.Warn("the memory for workspaces is not known", "err", err)
	}
	return agent.Capacity{Memory: shared.Limit, Disk: c.diskSize(ctx)}
}

func (c *ControlPlane) diskSize(ctx context.Context) int64 {
	if c.cfg.Quotas == nil {
		return 0
	}
	c.disk.mu.Lock()
	defer c.disk.mu.Unlock()
	now := c.now()
	if !c.disk.at.IsZero() && now.Sub(c.disk.at).Abs() < capacityAge {
		return c.disk.bytes
	}

	u, err := c.cfg.Quotas.Usage(ctx)
	if err != nil {
		c.cfg.Log.Warn("the size of the disk for workspaces is not known", "err", err)
		return c.disk.bytes
	}
	c.disk.bytes, c.disk.at = u.Size, now
	return u.Size
}

// Limits implements [agent.Workspaces].
func (c *ControlPlane) Limits(ctx context.Context, id string) (agent.LimitState, error) {
	rec, err := c.record(ctx, id)
	if err != nil {
		return agent.LimitState{}, err
	}
	return c.capacity(ctx).State(rec.Limits), nil
}

// SetLimits implements [agent.Workspaces]. What was stored before the runtime
// or the disk refused it holds from the next start.
func (c *ControlPlane) SetLimits(ctx context.Context, id string, l agent.Limits) (agent.LimitState, error) {
	capacity := c.capacity(ctx)
	if err := capacity.Validate(l); err != nil {
		return agent.LimitState{}, err
	}
	if l.Disk != 0 && c.cfg.Quotas == nil {
		return agent.LimitState{}, agent.Errorf(agent.CodeValidation, "Nothing limits what workspaces take of this VM's disk: leave diskBytes at 0")
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

	state := capacity.State(l)
	if was.Memory != l.Memory {
		if err := c.cfg.Memory.SetMemory(ctx, id, state.Memory.Limit); err != nil { // the page tells what holds
			c.cfg.Log.Info("the memory of a workspace changes with its next start", "workspace", id, "err", err)
		}
	}
	if was.Disk != l.Disk && c.cfg.Quotas != nil {
		err := c.cfg.Quotas.SetQuota(ctx, id, state.Disk.Limit)
		if err != nil && agent.ErrorCode(err) != agent.CodeNotFound { // it has no files yet
			return agent.LimitState{}, err
		}
	}
	return state, nil
}
