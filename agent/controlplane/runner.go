package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// idleLook is how often the store is asked for jobs when nothing says that
// there are any: a clock that jumped delays a job no longer than this.
const idleLook = 30 * time.Second

// handBack bounds the write of a job's end.
const handBack = 10 * time.Second

// errInterrupted says that a job's attempts all ended with the agent.
var errInterrupted = errors.New("interrupted too often")

// errLost says that a job's lease is somebody else's now, or its row is gone.
var errLost = errors.New("lease lost")

// Runner leases jobs, renews the leases while the jobs are worked on, and
// stores what comes of an attempt: the job is done, waits for another attempt,
// is given up, or goes for one that takes its place. It owns the columns of a
// job's row that say so. What a job does is not its concern: that is the
// [jobAttempt] which it is given.
type Runner struct {
	writer *writer
	begin  func(agent.Job) jobAttempt
	cancel func(*change, agent.Job) error // lets a job go for the one behind it
	log    *slog.Logger

	life        string // names this life in leases
	concurrency int    // jobs that run at once
	attempts    int    // of a job before it is parked
	lease       time.Duration
	backoff     backoff
}

// jobAttempt is one try at a job, as the runner sees it.
type jobAttempt interface {
	// run makes the attempt. When it returns nil the job is done and its row is
	// gone. An error is errLost when the lease was found to be another's.
	run(ctx context.Context) error
	// done is told after run returned nil. ctx is that of [Runner.Run].
	done(ctx context.Context)
	// explain says what an error of run's means to the job.
	explain(err error) failure
	// settle stores, beside the job's row, what came of a failed attempt.
	settle(ch *change, f failure, end attemptEnd) error
}

// attemptEnd is what becomes of a job after a failed attempt.
type attemptEnd int

// The ends of a failed attempt.
const (
	endRetried   attemptEnd = iota // the job is tried again later
	endWaits                       // the same, and as often as it takes: the fault is elsewhere
	endCancelled                   // the job goes: another one takes its place
	endParked                      // the job is given up
)

// failure is what a failed attempt means.
type failure struct {
	text   string // a sentence for the user
	step   string // name of the step that failed, for the log
	cause  string // without secrets, for the log
	final  bool   // trying again cannot help
	outage int    // how often in a row what the job needs was found away; 0: the fault is the job's own
}

func (f failure) level() slog.Level {
	if f.outage > 0 {
		return slog.LevelWarn
	}
	return slog.LevelError
}

// newRunner makes a runner. begin makes an attempt at a job that was leased,
// cancel lets a job go for another one.
func newRunner(cfg Config, life string, w *writer, begin func(agent.Job) jobAttempt, cancel func(*change, agent.Job) error) *Runner {
	return &Runner{
		writer: w, begin: begin, cancel: cancel, log: cfg.Log, life: life,
		concurrency: cfg.Concurrency, attempts: cfg.Attempts, lease: cfg.Lease,
		backoff: backoff{cfg.Backoff, cfg.MaxBackoff, cfg.Random},
	}
}

// Reclaim takes back the leases of lives that ended without handing them
// back. This life holds the database's lock, so they cannot be alive. It does
// not give up before ctx ends, and reports whether it succeeded.
func (r *Runner) Reclaim(ctx context.Context) bool {
	for n := 1; ; n++ {
		err := r.writer.update(ctx, reclaimAll)
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			r.log.Error("cannot take over jobs", "err", err)
		}
		if !sleep(ctx, r.backoff.after(n), nil) {
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

// Run leases jobs and has them worked on, until ctx ends and the jobs at work
// have handed their leases back.
func (r *Runner) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	turns := make(chan struct{}, r.concurrency)
	for failures := 0; ; {
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			return
		}

		job, wait, err := r.next(ctx)
		if err == nil && job.ID != "" {
			wg.Go(func() {
				defer wakeUp(r.writer.jobs) // a job behind it may begin
				defer func() { <-turns }()
				r.workOn(ctx, job)
			})
			continue
		}
		<-turns

		if err != nil && ctx.Err() == nil {
			r.log.Error("cannot look for jobs", "err", err)
			failures++
			wait = r.backoff.after(failures)
		} else {
			failures = 0
		}
		if !sleep(ctx, wait, r.writer.jobs) {
			return
		}
	}
}

// next leases the next job. Without one the id is "" and wait says when to
// look again.
func (r *Runner) next(ctx context.Context) (job agent.Job, wait time.Duration, err error) {
	err = r.writer.update(ctx, func(ch *change) error {
		j, ok, due, err := ch.NextJob(agent.JobQuery{Now: ch.now, Horizon: r.horizon(), Holder: r.life})
		if err != nil || !ok {
			wait = idleLook
			if due > 0 {
				wait = min(due, idleLook)
			}
			return err
		}
		j.State, j.LeaseToken, j.LeasedUntil, j.UpdatedAt = agent.JobLeased, r.life, ch.now.Add(r.lease), ch.now
		j.Attempts++
		job = j
		return ch.UpdateJob(j)
	})
	return job, wait, err
}

// horizon is further away than any time that a job can wait for.
func (r *Runner) horizon() time.Duration { return 2 * max(r.backoff.most, r.lease) }

// workOn makes one attempt at a job and settles what came of it.
func (r *Runner) workOn(ctx context.Context, job agent.Job) {
	log := r.log.With("workspace", job.WorkspaceID, "job", job.Kind, "attempt", job.Attempts)
	a := r.begin(job)
	running, lose := context.WithCancelCause(ctx)
	var beat sync.WaitGroup
	beat.Go(func() { r.heartbeat(running, lose, job) })
	err := r.attempt(running, a, job)
	lost := errors.Is(context.Cause(running), errLost)
	lose(nil)
	beat.Wait()

	switch {
	case err == nil:
		a.done(ctx)
	case lost, errors.Is(err, errLost):
		log.Warn("job went on elsewhere", "err", err)
	default:
		r.settle(ctx, log, a, job, err)
	}
}

// attempt runs an attempt, unless the job had too many: none of the earlier
// attempts came to an end, or the job would not be here.
func (r *Runner) attempt(ctx context.Context, a jobAttempt, job agent.Job) error {
	if job.Attempts > r.attempts {
		return fmt.Errorf("%w: %w", errInterrupted, agent.Errorf(agent.CodeInternal, "The work on this workspace was interrupted %d times. Try again.", r.attempts))
	}
	return a.run(ctx)
}

// heartbeat renews the lease until ctx ends, and ends the work when the lease
// is lost.
func (r *Runner) heartbeat(ctx context.Context, lose context.CancelCauseFunc, job agent.Job) {
	tick := time.NewTicker(r.lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}

		err := r.writer.update(ctx, func(ch *change) error {
			j, err := ch.leased(job)
			if err != nil {
				return err
			}
			j.LeasedUntil, j.UpdatedAt = ch.now.Add(r.lease), ch.now
			return ch.UpdateJob(j)
		})
		switch {
		case errors.Is(err, errLost):
			lose(errLost)
			return
		case err != nil && ctx.Err() == nil:
			r.log.Warn("cannot renew a lease", "workspace", job.WorkspaceID, "err", err)
		}
	}
}

// leased reads a job's row as long as it has the lease with which the job was
// taken, and is errLost otherwise: each write for a job asks for it first, so
// that a runner that was thought dead changes nothing.
func (ch *change) leased(job agent.Job) (agent.Job, error) {
	jobs, err := ch.Jobs(job.WorkspaceID)
	if err != nil {
		return agent.Job{}, err
	}
	for _, j := range jobs {
		if j.ID == job.ID && j.State == agent.JobLeased && j.LeaseToken == job.LeaseToken {
			return j, nil
		}
	}
	return agent.Job{}, errLost
}

// settle stores what came of an attempt that failed. It does not give up
// before ctx ends: a job whose end is not stored would wait for ever.
func (r *Runner) settle(ctx context.Context, log *slog.Logger, a jobAttempt, job agent.Job, cause error) {
	for n := 1; ; n++ {
		// A little time is left for handing the lease back when ctx has ended.
		write, cancel := context.WithTimeout(context.WithoutCancel(ctx), handBack)
		err := r.writer.update(write, func(ch *change) error {
			j, err := ch.leased(job)
			if err != nil {
				return err
			}
			j.UpdatedAt = ch.now
			if ctx.Err() != nil { // interrupted, not failed
				j.Attempts--
				release(&j, ch.now)
				return ch.UpdateJob(j)
			}
			f := a.explain(cause)
			log.LogAttrs(ctx, f.level(), "job failed", slog.String("step", f.step), slog.String("err", f.cause))
			return r.fail(ch, a, j, f)
		})
		cancel()
		if err == nil || errors.Is(err, errLost) {
			return
		}

		log.Error("cannot store how a job ended", "err", err)
		if !sleep(ctx, r.backoff.after(n), nil) {
			return
		}
	}
}

// fail decides what becomes of a job after a failed attempt, and stores that.
func (r *Runner) fail(ch *change, a jobAttempt, j agent.Job, f failure) error {
	jobs, err := ch.liveJobs(j.WorkspaceID)
	if err != nil {
		return err
	}
	j.LastError = f.text

	end := endRetried
	switch {
	case len(jobs) > 1: // the job behind it does all that is left to do
		end, ch.jobs = endCancelled, true
		err = r.cancel(ch, j)
	case f.outage > 0: // an attempt that does not count
		end, ch.jobs = endWaits, true
		j.Attempts--
		release(&j, ch.now.Add(r.backoff.after(f.outage)))
		err = ch.UpdateJob(j)
	case f.final || j.Attempts >= r.attempts:
		end = endParked
		j.State, j.LeasedUntil, j.LeaseToken = agent.JobParked, time.Time{}, ""
		err = ch.UpdateJob(j)
	default:
		ch.jobs = true
		release(&j, ch.now.Add(r.backoff.after(j.Attempts)))
		err = ch.UpdateJob(j)
	}
	if err != nil {
		return err
	}
	return a.settle(ch, f, end)
}

// hurry makes the jobs due that wait for their next attempt: what they waited
// for is over.
func (r *Runner) hurry(ctx context.Context) error {
	return r.writer.update(ctx, func(ch *change) error {
		jobs, err := ch.Jobs("")
		if err != nil {
			return err
		}
		for _, j := range jobs {
			if j.State != agent.JobQueued {
				continue
			}
			j.RunAt, ch.jobs = ch.now, true
			if err := ch.UpdateJob(j); err != nil {
				return err
			}
		}
		return nil
	})
}
