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

// memoryRecent is how long after such a process's end was seen the end of its
// workspace is taken for a consequence.
const memoryRecent = 10 * time.Second

// memoryWatch is what was seen of processes that the kernel ended.
type memoryWatch struct {
	looking   sync.Mutex // held by whoever looks at all
	mu        sync.Mutex
	kills     map[string]agent.MemoryKills // by workspace, at the last look
	killed    map[string]time.Time         // by workspace: when its last one was seen
	known     bool                         // shortages and total were read before
	shortages int                          // of the memory of all together, at the last look
	shared    time.Time                    // when they were seen to increase

	// The count of all has those of a container whose own count went with it,
	// as that of the process whose end was the container's.
	total     int       // of all, at the last look
	counted   int       // of those, seen in the count of a workspace
	unclaimed int       // of those, the most that were not; -1 before the first look
	surplus   time.Time // when these were seen to increase
}

// watchMemory looks at running workspaces until ctx ends.
func (c *ControlPlane) watchMemory(ctx context.Context) {
	for sleep(ctx, memoryEvery, nil) {
		c.lookAtAll(ctx)
	}
}

// lookAtAll looks at what all workspaces have together, then at each that runs.
func (c *ControlPlane) lookAtAll(ctx context.Context) {
	c.memory.looking.Lock()
	defer c.memory.looking.Unlock()
	c.lookAtShared(ctx)
	c.view.mu.Lock()
	ids := slices.Sorted(maps.Keys(c.view.watched))
	c.view.mu.Unlock()
	for _, id := range ids {
		if err := c.lookAtMemory(ctx, id); err != nil && ctx.Err() == nil && agent.ErrorCode(err) != agent.CodeNotFound {
			c.cfg.Log.Debug("what the kernel ended in a workspace is not known", "workspace", id, "err", err)
		}
	}
	c.memory.settle(c.now())
}

// lookAtShared remembers when all workspaces together had used up what they
// have. What happened before the agent's first look is nobody's now.
func (c *ControlPlane) lookAtShared(ctx context.Context) {
	shared, err := c.cfg.Memory.SharedMemory(ctx)
	if err != nil {
		return
	}
	m := &c.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known && shared.Shortages > m.shortages {
		m.shared = c.now()
	}
	if m.known && shared.Kills < m.total { // the kernel counts anew
		m.counted, m.unclaimed = 0, 0
	}
	if !m.known {
		m.unclaimed = -1
	}
	m.known, m.shortages, m.total = true, shared.Shortages, shared.Kills
}

// settle compares the count of all with those of workspaces, after a look at all
// of them. Theirs are younger, so they may be ahead for a moment.
func (m *memoryWatch) settle(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.known {
		return
	}
	unclaimed := max(0, m.total-m.counted)
	if m.unclaimed >= 0 && unclaimed > m.unclaimed {
		m.surplus = now
	}
	m.unclaimed = max(m.unclaimed, unclaimed)
}

// since tells whether it was seen only a moment before an end, or after it, that
// all workspaces together had used up what they have, and that processes were
// ended whose workspace had no count any more.
func (m *memoryWatch) since(end time.Time) (shared, surplus bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return isRecent(m.shared, end), isRecent(m.surplus, end)
}

// isRecent tells whether something was seen at most memoryRecent before an end,
// or later: what is seen has happened before.
func isRecent(seen, end time.Time) bool {
	return !seen.IsZero() && end.Sub(seen) <= memoryRecent
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
// was used up: the zero value when it was not, or when that is not known. The end
// counts, not when it is learned of, which may be much later on a machine that is
// short of memory.
func (c *ControlPlane) shortageOf(ctx context.Context, rec agent.Record) agent.Shortage {
	kills, err := c.cfg.Observer.MemoryKills(ctx, rec.ID)
	if err != nil || !kills.Whole && !kills.Killed {
		return agent.Shortage{}
	}
	c.lookAtAll(ctx)
	end := kills.Ended
	if end.IsZero() {
		end = c.now()
	}
	shared, surplus := c.memory.since(end)
	at, known := c.memory.lastKill(rec.ID)
	switch {
	case surplus, known && isRecent(at, end): // the kernel's count says so
	case kills.Whole && !known: // the runtime does, and nothing speaks against it
	default:
		return agent.Shortage{} // a process that it had outlived, or none at all
	}
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
	if last.Since == now.Since {
		m.counted += max(0, now.Processes-last.Processes)
	} else {
		m.counted += now.Processes
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
