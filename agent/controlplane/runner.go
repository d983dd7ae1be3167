package controlplane

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// idleLook is how often the store is asked for jobs when nothing says that
// there are any: a clock that jumped delays a job no longer than this.
const idleLook = 30 * time.Second

// errInterrupted says that a job's attempts all ended with the agent.
var errInterrupted = errors.New("interrupted too often")

// errLost says that a job's lease is somebody else's now, or its row is gone.
var errLost = errors.New("lease lost")

// reclaim takes back the leases of lives that ended without handing them
// back. This life holds the database's lock, so they cannot be alive. It does
// not give up before ctx ends, and reports whether it succeeded.
func (c *ControlPlane) reclaim(ctx context.Context) bool {
	for n := 1; ; n++ {
		err := c.update(ctx, reclaimAll)
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			c.cfg.Log.Error("cannot take over jobs", "err", err)
		}
		if !c.sleep(ctx, c.backoff(n), nil) {
			return false
		}
	}
}

func reclaimAll(ch *change) error {
	jobs, err := ch.Jobs("")
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if j.State != agent.JobLeased {
			continue
		}
		release(&j, ch.now)
		if err := ch.UpdateJob(j); err != nil {
			return err
		}
	}
	return nil
}

// release puts a job back into the queue, to run at a time.
func release(j *agent.Job, at time.Time) {
	j.State, j.RunAt, j.LeasedUntil, j.LeaseToken = agent.JobQueued, at, time.Time{}, ""
}

// runJobs leases jobs and works on them, at most Concurrency at once, until
// ctx ends and those that run have handed their leases back.
func (c *ControlPlane) runJobs(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, c.cfg.Concurrency)
	for failures := 0; ; {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		job, wait, err := c.lease(ctx)
		if err == nil && job.ID != "" {
			wg.Go(func() {
				defer wakeUp(c.wake) // what waited for this workspace may begin
				defer func() { <-slots }()
				c.work(ctx, job)
			})
			continue
		}
		<-slots
		if err != nil && ctx.Err() == nil {
			c.cfg.Log.Error("cannot look for jobs", "err", err)
			failures++
			wait = c.backoff(failures)
		} else {
			failures = 0
		}
		if !c.sleep(ctx, wait, c.wake) {
			return
		}
	}
}

// sleep waits until d is over, wake receives, or ctx ends, and reports
// whether ctx lives.
func (c *ControlPlane) sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// lease takes the next job. Without one the id is "" and wait says when to
// look again.
func (c *ControlPlane) lease(ctx context.Context) (job agent.Job, wait time.Duration, err error) {
	err = c.update(ctx, func(ch *change) error {
		j, ok, due, err := ch.NextJob(agent.JobQuery{Now: ch.now, Horizon: c.horizon(), Holder: c.life})
		if err != nil || !ok {
			wait = idleLook
			if due > 0 {
				wait = min(due, idleLook)
			}
			return err
		}
		j.State, j.LeaseToken, j.LeasedUntil, j.UpdatedAt = agent.JobLeased, c.life, ch.now.Add(c.cfg.Lease), ch.now
		j.Attempts++
		job = j
		return ch.UpdateJob(j)
	})
	return job, wait, err
}

// horizon is further away than any time that a job can wait for.
func (c *ControlPlane) horizon() time.Duration { return 2 * max(c.cfg.MaxBackoff, c.cfg.Lease) }

// work makes one attempt at a job and settles what came of it.
func (c *ControlPlane) work(ctx context.Context, job agent.Job) {
	a := &attempt{c: c, job: job, log: c.cfg.Log.With("workspace", job.WorkspaceID, "job", job.Kind, "attempt", job.Attempts)}
	running, lose := context.WithCancelCause(ctx)
	var beat sync.WaitGroup
	beat.Go(func() { c.heartbeat(running, lose, job) })
	err := a.run(running)
	lost := errors.Is(context.Cause(running), errLost)
	lose(nil)
	beat.Wait()
	if err == nil || lost || errors.Is(err, errLost) {
		if err != nil {
			a.log.Warn("job went on elsewhere", "err", err)
		} else if provisions(job.Kind) {
			c.watch(ctx, job.WorkspaceID)
		}
		return
	}
	a.settle(ctx, err)
}

// heartbeat renews the lease until ctx ends, and ends the work when the lease
// is lost.
func (c *ControlPlane) heartbeat(ctx context.Context, lose context.CancelCauseFunc, job agent.Job) {
	tick := time.NewTicker(c.cfg.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := c.update(ctx, func(ch *change) error {
			j, err := ch.owned(job.ID, job.WorkspaceID, c.life)
			if err != nil {
				return err
			}
			j.LeasedUntil, j.UpdatedAt = ch.now.Add(c.cfg.Lease), ch.now
			return ch.UpdateJob(j)
		})
		switch {
		case errors.Is(err, errLost):
			lose(errLost)
			return
		case err != nil && ctx.Err() == nil:
			c.cfg.Log.Warn("cannot renew a lease", "workspace", job.WorkspaceID, "err", err)
		}
	}
}

// owned reads a job that this life has leased, and is errLost otherwise: each
// write of a job's asks it first, so that a runner that was thought dead
// changes nothing.
func (ch *change) owned(id, workspaceID, holder string) (agent.Job, error) {
	jobs, err := ch.Jobs(workspaceID)
	if err != nil {
		return agent.Job{}, err
	}
	for _, j := range jobs {
		if j.ID == id && j.State == agent.JobLeased && j.LeaseToken == holder {
			return j, nil
		}
	}
	return agent.Job{}, errLost
}

// settle stores what came of an attempt that failed. It does not give up
// before ctx ends: a job whose end is not stored would wait for ever.
func (a *attempt) settle(ctx context.Context, err error) {
	for n := 1; ; n++ {
		// A little time is left for handing the lease back when ctx has ended.
		write, cancel := context.WithTimeout(context.WithoutCancel(ctx), handBack)
		failed := a.c.update(write, func(ch *change) error { return a.outcome(ctx, ch, err) })
		cancel()
		if failed == nil || errors.Is(failed, errLost) {
			return
		}
		a.log.Error("cannot store how a job ended", "err", failed)
		if !a.c.sleep(ctx, a.c.backoff(n), nil) {
			return
		}
	}
}

// handBack bounds the write of a job's end.
const handBack = 10 * time.Second

// outcome decides what becomes of a job after err.
func (a *attempt) outcome(ctx context.Context, ch *change, err error) error {
	j, failed := ch.owned(a.job.ID, a.job.WorkspaceID, a.c.life)
	if failed != nil {
		return failed
	}
	j.UpdatedAt = ch.now
	if ctx.Err() != nil { // interrupted, not failed
		j.Attempts--
		release(&j, ch.now)
		return ch.UpdateJob(j)
	}
	f := a.explain(err)
	a.log.LogAttrs(ctx, f.level(), "job failed", slog.String("step", a.step.Name), slog.String("err", a.c.tokens.scrub(j.WorkspaceID, err.Error())))
	j.LastError = f.text
	if err := a.failStep(ch, f.text); err != nil {
		return err
	}
	jobs, failed := ch.liveJobs(j.WorkspaceID)
	switch {
	case failed != nil:
		return failed
	case len(jobs) > 1: // a deletion waits: it does all that is left to do
		ch.jobs = true
		return ch.DeleteJob(j.ID)
	case f.waits:
		return a.wait(ch, j)
	case f.final || j.Attempts >= a.c.cfg.Attempts:
		return a.park(ch, j)
	}
	release(&j, ch.now.Add(a.c.backoff(j.Attempts)))
	ch.jobs = true
	return ch.UpdateJob(j)
}

// wait puts off a job whose failure is not its own. The attempt does not
// count, and the workspace says what it waits for.
func (a *attempt) wait(ch *change, j agent.Job) error {
	j.Attempts--
	release(&j, ch.now.Add(a.c.backoff(a.c.view.outage())))
	ch.jobs = true
	if err := ch.UpdateJob(j); err != nil {
		return err
	}
	rec, err := ch.Workspace(j.WorkspaceID)
	if err != nil || rec.ErrorMessage == j.LastError {
		return err
	}
	rec.ErrorMessage = j.LastError
	return ch.put(&rec)
}

// park gives a job up: the workspace is in error and says why.
func (a *attempt) park(ch *change, j agent.Job) error {
	j.State, j.LeasedUntil, j.LeaseToken = agent.JobParked, time.Time{}, ""
	if err := ch.UpdateJob(j); err != nil {
		return err
	}
	rec, err := ch.Workspace(j.WorkspaceID)
	if err != nil {
		return err
	}
	rec.Status, rec.ErrorMessage, rec.Address = agent.StatusError, j.LastError, ""
	return ch.put(&rec) // a clone's token is kept for another start
}

// backoff is the time before the next attempt after n of them: doubled each
// time, up to a limit, and between half and all of that, so that jobs that
// failed together do not come back together.
func (c *ControlPlane) backoff(n int) time.Duration {
	d := c.cfg.Backoff
	for ; n > 1 && d < c.cfg.MaxBackoff; n-- {
		d *= 2
	}
	d = max(min(d, c.cfg.MaxBackoff), 2*time.Millisecond)
	var b [8]byte
	if _, err := io.ReadFull(c.cfg.Random, b[:]); err != nil {
		return d
	}
	return d/2 + time.Duration(binary.NativeEndian.Uint64(b[:])%uint64(d/2))
}

// failure is what a failed attempt means.
type failure struct {
	text  string // a sentence for the user
	final bool   // trying again cannot help
	waits bool   // not the job's fault: it waits, as long as it takes
}

func (f failure) level() slog.Level {
	if f.waits {
		return slog.LevelWarn
	}
	return slog.LevelError
}

// explain turns an error into what it means. Only texts of [agent.Error] are
// for users.
func (a *attempt) explain(err error) failure {
	e, ok := errors.AsType[*agent.Error](err)
	if !ok {
		text := fmt.Sprintf("%s failed. The agent's log has the details.", a.step.Title)
		if errors.Is(err, context.DeadlineExceeded) {
			text = fmt.Sprintf("%s took too long.", a.step.Title)
		}
		return failure{text: text}
	}
	return failure{
		text:  a.c.tokens.scrub(a.job.WorkspaceID, e.Message),
		final: a.final(err, e.Code),
		waits: e.Code == agent.CodeUnavailable,
	}
}

// final reports whether trying again cannot help. A conflict is the user's
// folder when it comes from the clone; from elsewhere it is a container that
// ended meanwhile.
func (a *attempt) final(err error, code string) bool {
	switch code {
	case agent.CodeValidation, agent.CodeTooLarge:
		return true
	case agent.CodeConflict:
		return a.step.Name == agent.StepClone
	}
	return errors.Is(err, errInterrupted)
}
