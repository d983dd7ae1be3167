package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// A workspace whose container ends this often in this time is not started
// again by itself.
const (
	maxRecoveries  = 3
	recoveryPeriod = 10 * time.Minute
)

// observed is what reconciliation saw of the runtime.
type observed struct {
	mu         sync.Mutex
	at         time.Time // of the last look that succeeded
	err        error     // why the last look failed
	failures   int       // in a row
	orphans    []agent.ContainerRef
	recoveries map[string][]time.Time // by workspace
	watched    map[string]bool        // workspaces whose container's end is waited for
}

// outage counts how often in a row the runtime was found silent, at least 1.
func (o *observed) outage() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return max(1, o.failures)
}

// takenSlots are the slots of orphans, whose data is still there.
func (o *observed) takenSlots() (slots []int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, ref := range o.orphans {
		slots = append(slots, ref.Slot)
	}
	return slots
}

// State is what there is to know about the whole, for metrics and diagnosis.
type State struct {
	Workspaces   map[agent.Status]int
	Jobs         map[agent.JobState]int
	ReconciledAt time.Time            // zero before the first time
	RuntimeError string               // why the runtime does not answer, "" when it does
	Orphans      []agent.ContainerRef // containers and files without a workspace: never touched
}

// State reads it.
func (c *ControlPlane) State(ctx context.Context) (State, error) {
	s := State{Workspaces: map[agent.Status]int{}, Jobs: map[agent.JobState]int{}}
	err := c.cfg.Store.View(ctx, func(tx agent.Tx) error {
		all, err := tx.Workspaces(agent.Cursor{}, everything)
		if err != nil {
			return err
		}
		for _, rec := range all {
			s.Workspaces[rec.Status]++
		}
		jobs, err := tx.Jobs("")
		for _, j := range jobs {
			s.Jobs[j.State]++
		}
		return err
	})
	if err != nil {
		return State{}, fmt.Errorf("read state: %w", err)
	}

	c.view.mu.Lock()
	defer c.view.mu.Unlock()
	s.ReconciledAt, s.Orphans = c.view.at, slices.Clone(c.view.orphans)
	if c.view.err != nil {
		s.RuntimeError = c.view.err.Error()
	}
	return s, nil
}

// reconcileLoop reconciles at once, when a container ends that nobody asked to,
// and every so often; sooner while the runtime does not answer.
func (c *ControlPlane) reconcileLoop(ctx context.Context) {
	for {
		wait := c.cfg.ReconcileEvery
		if err := c.Reconcile(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("cannot compare workspaces and containers", "err", err)
			wait = min(wait, c.runner.backoff.after(c.view.outage()))
		}
		if !sleep(ctx, wait, c.recheck) {
			return
		}
	}
}

// Reconcile compares rows, containers, files and jobs, and stores the jobs
// that bring them into agreement. It does none of the work itself: the jobs
// of a workspace are one after the other.
func (c *ControlPlane) Reconcile(ctx context.Context) error {
	if err := c.loadRoutes(ctx); err != nil {
		return err
	}
	before, err := c.records(ctx)
	if err != nil {
		return err
	}
	c.memory.keep(before)
	refs, err := c.listContainers(ctx)
	if err != nil {
		return err
	}
	refs = withFiles(refs, c.filesOrOrphans(ctx))

	found := map[string]agent.ContainerStatus{}
	for _, ref := range refs {
		found[ref.ID] = ref.Status
	}

	for _, id := range slices.Sorted(maps.Keys(before)) {
		if before[id].Status == agent.StatusRunning && found[id] == agent.ContainerRunning {
			c.watch(ctx, id)
		}
		if err := c.agree(ctx, before[id], cmp.Or(found[id], agent.ContainerNotFound)); err != nil {
			return err
		}
	}

	after, err := c.records(ctx)
	if err != nil {
		return err
	}
	// What has a row before or after belongs to somebody: it may just have
	// been made, or be on its way out.
	c.reportOrphans(slices.DeleteFunc(refs, func(ref agent.ContainerRef) bool {
		_, was := before[ref.ID]
		_, is := after[ref.ID]
		return was || is
	}))
	wakeUp(c.untidy)
	return nil
}

// listContainers lists what the runtime holds. When it answers again after it did not,
// the jobs that wait for it are due.
func (c *ControlPlane) listContainers(ctx context.Context) ([]agent.ContainerRef, error) {
	refs, err := c.cfg.Inventory.List(ctx)
	returned := c.noteAnswer(ctx, err)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	if returned {
		c.cfg.Log.Info("the container runtime answers again")
		err = c.runner.hurry(ctx)
	}
	return refs, err
}

// filesOrOrphans lists the files on the disk. While that does not answer they
// are those that belonged to no workspace before: their slots stay taken.
func (c *ControlPlane) filesOrOrphans(ctx context.Context) []agent.ContainerRef {
	files, err := c.listFiles(ctx)
	if err == nil {
		return files
	}
	c.cfg.Log.Warn("files without a workspace are those that were known before", "err", err)
	c.view.mu.Lock()
	defer c.view.mu.Unlock()
	for _, ref := range c.view.orphans {
		if ref.HasHome {
			files = append(files, agent.ContainerRef{ID: ref.ID, Slot: ref.Slot, Status: agent.ContainerNotFound, HasHome: true})
		}
	}
	return files
}

// watch waits for the end of a running workspace's container, and has
// reconciliation look when nobody asked for it. ctx is that of
// [ControlPlane.Run]. Whatever escapes it is found by the next reconciliation.
func (c *ControlPlane) watch(ctx context.Context, id string) {
	c.view.mu.Lock()
	defer c.view.mu.Unlock()
	if c.view.watched[id] {
		return
	}

	c.view.watched[id] = true
	c.watches.Go(func() {
		err := c.cfg.Observer.Wait(ctx, id)
		c.view.mu.Lock()
		delete(c.view.watched, id)
		c.view.mu.Unlock()
		if err == nil {
			var rec agent.Record
			if rec, err = c.record(ctx, id); err == nil && rec.Status == agent.StatusRunning {
				wakeUp(c.recheck)
			}
		}
		if err == nil || ctx.Err() != nil || agent.ErrorCode(err) == agent.CodeNotFound {
			return
		}
		c.cfg.Log.Warn("cannot wait for the end of a workspace's container", "workspace", id, "err", err)
		// An end that comes now must not be missed until the next reconciliation
		// is due: this one waits for the runtime, and watches again.
		if sleep(ctx, c.runner.backoff.after(1), nil) {
			wakeUp(c.recheck)
		}
	})
}

func (c *ControlPlane) records(ctx context.Context) (map[string]agent.Record, error) {
	recs := map[string]agent.Record{}
	err := c.cfg.Store.View(ctx, func(tx agent.Tx) error {
		all, err := tx.Workspaces(agent.Cursor{}, everything)
		for _, rec := range all {
			recs[rec.ID] = rec
		}
		return err
	})
	return recs, err
}

// noteAnswer remembers whether the runtime answered, and reports whether it does
// again after it did not.
func (c *ControlPlane) noteAnswer(ctx context.Context, err error) bool {
	c.view.mu.Lock()
	defer c.view.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			c.view.err = err
			c.view.failures++
		}
		return false
	}
	returned := c.view.err != nil
	c.view.err, c.view.failures, c.view.at = nil, 0, c.now()
	return returned
}

// agree brings one workspace into agreement with its container, as it was
// seen a moment ago.
func (c *ControlPlane) agree(ctx context.Context, seen agent.Record, container agent.ContainerStatus) error {
	runs := container == agent.ContainerRunning
	var shortage agent.Shortage
	if seen.Status == agent.StatusRunning && !runs {
		shortage = c.shortageOf(ctx, seen)
	}

	return c.update(ctx, func(ch *change) error {
		rec, err := ch.Workspace(seen.ID)
		if agent.ErrorCode(err) == agent.CodeNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		jobs, err := ch.liveJobs(rec.ID)
		if err != nil || len(jobs) > 0 || rec.Status != seen.Status || !rec.UpdatedAt.Equal(seen.UpdatedAt) {
			return err // a job sees to it, or it has moved on
		}

		kind, lost := c.kinds.during(rec.Status)
		switch {
		case lost: // the job that was to end this state is gone
			return ch.enqueue(agent.Job{Kind: kind.name, WorkspaceID: rec.ID})
		case rec.Status == agent.StatusRunning && !runs:
			return c.recover(ch, rec, shortage)
		case (rec.Status == agent.StatusStopped || rec.Status == agent.StatusError) && runs:
			kind, _ = c.kinds.leadingTo(agent.StatusStopped)
			return ch.enqueue(agent.Job{Kind: kind.name, WorkspaceID: rec.ID})
		}
		return nil
	})
}

// recover starts a workspace again whose container has ended without being
// asked to: after a boot, or because its processes died. Its ports stay
// registered. One that keeps ending is left in error.
func (c *ControlPlane) recover(ch *change, rec agent.Record, shortage agent.Shortage) error {
	rec.Status, rec.Address = agent.StatusError, ""
	rec.ErrorMessage = fmt.Sprintf("The workspace's processes ended by themselves %d times within %s. The workspace's log says why.", maxRecoveries+1, recoveryPeriod)
	why := "The workspace's processes ended by themselves. It is started again."
	if shortage.Message != "" {
		rec.Shortage = shortage
		rec.ErrorMessage = fmt.Sprintf("%s It was the %dth time within %s: give it more memory, or let less go on in it.", shortage.Message, maxRecoveries+1, recoveryPeriod)
		why = shortage.Message + " It is started again."
	}
	if !c.mayRecover(rec.ID, ch.now) {
		c.cfg.Log.Error("workspace keeps ending", "workspace", rec.ID)
		return ch.put(&rec)
	}
	c.cfg.Log.Warn("workspace does not run and is started again", "workspace", rec.ID)
	ch.then = append(ch.then, func() { c.recovered(rec.ID, ch.now) })
	return c.restart(ch, rec, why)
}

// restart begins the way back to running, from running or error. why is for
// the user, until it runs.
func (c *ControlPlane) restart(ch *change, rec agent.Record, why string) error {
	rec.Status, rec.Address, rec.ErrorMessage = agent.StatusCreating, "", why // running → error → creating
	if err := ch.put(&rec); err != nil {
		return err
	}
	return ch.enqueue(agent.Job{Kind: agent.JobStart, WorkspaceID: rec.ID})
}

// restartAll is for the first moment after a boot: no row may go on saying that
// a workspace runs. Those that have a job come to it by that.
func (c *ControlPlane) restartAll(ch *change) error {
	all, err := ch.Workspaces(agent.Cursor{}, everything)
	if err != nil {
		return err
	}
	for _, rec := range all {
		jobs, err := ch.liveJobs(rec.ID)
		if err != nil {
			return err
		}
		if rec.Status != agent.StatusRunning || len(jobs) > 0 {
			continue
		}
		if err := c.restart(ch, rec, ""); err != nil {
			return err
		}
	}
	return nil
}

// mayRecover reports whether a workspace was recovered less often lately than
// is allowed.
func (c *ControlPlane) mayRecover(id string, now time.Time) bool {
	c.view.mu.Lock()
	defer c.view.mu.Unlock()
	recent := slices.DeleteFunc(c.view.recoveries[id], func(t time.Time) bool {
		return now.Sub(t).Abs() > recoveryPeriod
	})
	c.view.recoveries[id] = recent
	return len(recent) < maxRecoveries
}

// recovered counts a recovery.
func (c *ControlPlane) recovered(id string, now time.Time) {
	c.view.mu.Lock()
	defer c.view.mu.Unlock()
	c.view.recoveries[id] = append(c.view.recoveries[id], now)
}

// reportOrphans logs orphans that are new, and remembers all.
func (c *ControlPlane) reportOrphans(orphans []agent.ContainerRef) {
	c.view.mu.Lock()
	defer c.view.mu.Unlock()
	for _, o := range orphans {
		known := slices.ContainsFunc(c.view.orphans, func(k agent.ContainerRef) bool { return k.ID == o.ID })
		if !known {
			c.cfg.Log.Warn("a container or files belong to no workspace; they are left alone", "workspace", o.ID, "name", o.Name, "status", o.Status)
		}
	}
	c.view.orphans = orphans
}
