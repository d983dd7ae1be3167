package controlplane

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// memoryEvery is how often running workspaces are looked at for processes that
// the kernel ended because memory was used up. A look costs the reading of a
// file for each.
const memoryEvery = 2 * time.Second

// memoryRecent is how long after such a process's end the end of its workspace
// is taken for a consequence.
const memoryRecent = 10 * time.Second

// memoryWatch is what was seen of processes that the kernel ended.
type memoryWatch struct {
	mu        sync.Mutex
	kills     map[string]agent.MemoryKills // by workspace, at the last look
	killed    map[string]time.Time         // by workspace: when its last one was seen
	known     bool                         // shortages was read before
	shortages int                          // of the memory of all together, at the last look
	shared    time.Time                    // when they were seen to increase
}

// watchMemory looks at running workspaces until ctx ends.
func (c *ControlPlane) watchMemory(ctx context.Context) {
	for sleep(ctx, memoryEvery, nil) {
		c.lookAtShared(ctx)
		c.view.mu.Lock()
		ids := slices.Sorted(maps.Keys(c.view.watched))
		c.view.mu.Unlock()
		for _, id := range ids {
			if err := c.lookAtMemory(ctx, id); err != nil && ctx.Err() == nil && agent.ErrorCode(err) != agent.CodeNotFound {
				c.cfg.Log.Debug("what the kernel ended in a workspace is not known", "workspace", id, "err", err)
			}
		}
	}
}

// lookAtShared remembers when all workspaces together had used up what they
// have. What happened before the agent's first look is nobody's now.
func (c *ControlPlane) lookAtShared(ctx context.Context) {
	shared, err := c.cfg.Memory.SharedMemory(ctx)
	if err != nil {
		return
	}
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	if c.memory.known && shared.Shortages > c.memory.shortages {
		c.memory.shared = c.now()
	}
	c.memory.known, c.memory.shortages = true, shared.Shortages
}

// wasShared tells whether it is only a moment since all workspaces together had
// used up what they have.
func (c *ControlPlane) wasShared() bool {
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	return !c.memory.shared.IsZero() && c.now().Sub(c.memory.shared).Abs() < memoryRecent
}

// lookAtMemory notes processes of a workspace that the kernel has ended since
// the last look.
func (c *ControlPlane) lookAtMemory(ctx context.Context, id string) error {
	now, err := c.cfg.Observer.MemoryKills(ctx, id)
	if err != nil {
		return err
	}
	last, known := c.memory.swap(id, now)
	if now.Processes == 0 || known && last == now {
		return nil
	}
	c.memory.note(id, c.now())
	if last.Since != now.Since {
		last = agent.MemoryKills{}
	}

	shared, capacity := now.Own == last.Own, c.capacity(ctx)
	return c.update(ctx, func(ch *change) error {
		rec, err := ch.Workspace(id)
		if err != nil || rec.Status != agent.StatusRunning {
			return err
		}
		if !known && rec.Shortage.Message != "" {
			return nil // the agent's former life said so
		}
		rec.Shortage = agent.Shortage{Message: shortageText(capacity, rec, false, shared), At: ch.now}
		c.cfg.Log.Warn("a process was ended because memory was used up", "workspace", id, "shared", shared)
		return ch.put(&rec)
	})
}

// shortageOf says whether a workspace that has ended was ended because memory
// was used up: the zero value when it was not, or when that is not known.
func (c *ControlPlane) shortageOf(ctx context.Context, rec agent.Record) agent.Shortage {
	kills, err := c.cfg.Observer.MemoryKills(ctx, rec.ID)
	if err != nil || !kills.Whole {
		return agent.Shortage{}
	}
	if at, known := c.memory.lastKill(rec.ID); known && c.now().Sub(at).Abs() > memoryRecent {
		return agent.Shortage{} // that was a process that it had outlived
	}
	c.lookAtShared(ctx)
	shared := c.wasShared()
	c.cfg.Log.Warn("a workspace was ended because memory was used up", "workspace", rec.ID, "shared", shared)
	return agent.Shortage{Message: shortageText(c.capacity(ctx), rec, true, shared), At: c.now()}
}

// shortageText is a sentence for the user.
func shortageText(capacity agent.Capacity, rec agent.Record, whole, shared bool) string {
	what := "A process was ended because the workspace"
	if whole {
		what = "The workspace ended because it"
	}
	own := agent.Size(capacity.Of(rec.Limits).Memory)
	if !shared {
		return fmt.Sprintf("%s used more than its %s of memory.", what, own)
	}
	return fmt.Sprintf("%s used the most when all workspaces together needed more than the %s of memory that the VM has for them.", what, agent.Size(capacity.Memory))
}

// swap stores what was seen of a workspace and returns what was seen before.
func (m *memoryWatch) swap(id string, now agent.MemoryKills) (last agent.MemoryKills, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kills == nil {
		m.kills, m.killed = map[string]agent.MemoryKills{}, map[string]time.Time{}
	}
	last, known = m.kills[id]
	if last.Since != now.Since {
		delete(m.killed, id)
	}
	m.kills[id] = now
	return last, known
}

// note remembers when a process was seen to have been ended.
func (m *memoryWatch) note(id string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.killed[id] = at
}

// lastKill is when a process of the workspace's last life was seen to have been
// ended.
func (m *memoryWatch) lastKill(id string) (time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, known := m.killed[id]
	return at, known
}

// keep forgets workspaces that are not among rows.
func (m *memoryWatch) keep(rows map[string]agent.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.kills {
		if _, is := rows[id]; !is {
			delete(m.kills, id)
			delete(m.killed, id)
		}
	}
}
