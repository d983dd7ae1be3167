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

// errSuperseded says that an attempt was ended for a job that was asked for
// after it.
var errSuperseded = errors.New("another job takes its place")

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
	log    *slog.Logger

	life     string // names this life in leases
	lanes    []lane
	attempts int // of a job before it is parked
	lease    time.Duration
	backoff  backoff

	mu     sync.Mutex
	atWork map[string]context.CancelCauseFunc // by id of the job whose attempt runs
}

// lane is a number of turns that jobs of some kinds have for themselves, so
// that they never wait for those of another lane.
type lane struct {
	turns     int
	only, not []agent.JobKind // as in [agent.JobQuery]
	wake      <-chan struct{}
}

// jobAttempt is one try at a job, as the runner sees it.
type jobAttempt interface {
	// run makes the attempt. When it returns nil the job is done and its row is
	// gone. An error is errLost when the lease was found to be another's.
	run(ctx context.Context) error
	// done is told after run returned nil. ctx is that of [Runner.Run].
	done(ctx context.Context)
	// abandon leaves things as they are to be when the job is about to be
	// parked. It is a courtesy: what it cannot do, others find.
	abandon(ctx context.Context)
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
	endCancelled                   // the job goes: the one behind it takes its place
	endParked                      // the job is given up
)

// failure is what a failed attempt means.
type failure struct {
	text   string // a sentence for the user
	step   string // name of the step that failed, for the log
	cause  string // without secrets, for the log
	final  bool   // trying again cannot help
	outage int    // how often in a row what the job needs was found away; 0: the fault is the job's own

	superseded bool // no failure: the attempt was ended for the job behind it
}

func (f failure) level() slog.Level {
	if f.outage > 0 {
		return slog.LevelWarn
	}
	return slog.LevelError
}

// newRunner makes a runner. begin makes an attempt at a job that was leased.
// Jobs of the kinds in provisioning have their own lane, all others another.
func newRunner(cfg Config, life string, w *writer, begin func(agent.Job) jobAttempt, provisioning []agent.JobKind) *Runner {
	return &Runner{
		writer: w, begin: begin, log: cfg.Log, life: life,
		lanes: []lane{
			{turns: cfg.Concurrency, only: provisioning, wake: w.wakes()},
			{turns: cfg.Endings, not: provisioning, wake: w.wakes()},
		},
		attempts: cfg.Attempts, lease: cfg.Lease,
		backoff: backoff{cfg.Backoff, cfg.MaxBackoff, cfg.Random},
		atWork:  map[string]context.CancelCauseFunc{},
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
	for _, l := range r.lanes {
		wg.Go(func() { r.runLane(ctx, l) })
	}
	wg.Wait()
}

// runLane does the same for the jobs of one lane.
func (r *Runner) runLane(ctx context.Context, l lane) {
	var wg sync.WaitGroup
	defer wg.Wait()
	turns := make(chan struct{}, l.turns)
	for failures := 0; ; {
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			return
		}

		job, wait, err := r.next(ctx, l)
		if err == nil && job.ID != "" {
			wg.Go(func() {
				defer r.writer.wakeAll() // a job behind it may begin
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
		if !sleep(ctx, wait, l.wake) {
			return
		}
	}
}

// next leases the next job of a lane. Without one the id is "" and wait says when to
// look again.
func (r *Runner) next(ctx context.Context, l lane) (job agent.Job, wait time.Duration, err error) {
	err = r.writer.update(ctx, func(ch *change) error {
		j, ok, due, err := ch.NextJob(agent.JobQuery{Now: ch.now, Horizon: r.horizon(), Holder: r.life, Only: l.only, Not: l.not})
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
	running, end := context.WithCancelCause(ctx)
	r.track(job.ID, end)
	var beat sync.WaitGroup
	beat.Go(func() { r.heartbeat(running, end, job) })

	err := r.attempt(running, a, job)
	var f failure
	if err != nil && running.Err() == nil && !errors.Is(err, errLost) && !errors.Is(err, errSuperseded) {
		if f = a.explain(err); r.parks(job, f) {
			a.abandon(running)
		}
	}

	cause := context.Cause(running)
	r.track(job.ID, nil)
	end(nil)
	beat.Wait()
	f.superseded = errors.Is(err, errSuperseded) || errors.Is(cause, errSuperseded)

	switch {
	case err == nil:
		a.done(ctx)
	case errors.Is(cause, errLost), errors.Is(err, errLost):
		log.Warn("job went on elsewhere", "err", err)
	default:
		if f.text == "" {
			superseded := f.superseded
			f = a.explain(err)
			f.superseded = superseded
		}
		r.settle(ctx, log, a, job, f)
	}
}

// track remembers how the attempt at a job is ended while it runs, and forgets
// it without one.
func (r *Runner) track(jobID string, end context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if end == nil {
		delete(r.atWork, jobID)
		return
	}
	r.atWork[jobID] = end
}

// interrupt ends the attempt at a job, if it runs: another job, which is
// stored, takes its place.
func (r *Runner) interrupt(jobID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if end := r.atWork[jobID]; end != nil {
		end(errSuperseded)
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
func (r *Runner) settle(ctx context.Context, log *slog.Logger, a jobAttempt, job agent.Job, f failure) {
	if f.superseded {
		log.Info("job ended for the one behind it", "step", f.step)
	} else if ctx.Err() == nil {
		log.LogAttrs(ctx, f.level(), "job failed", slog.String("step", f.step), slog.String("err", f.cause))
	}

	for n := 1; ; n++ {
		// A little time is left for handing the lease back when ctx has ended.
		write, cancel := context.WithTimeout(context.WithoutCancel(ctx), handBack)
		err := r.writer.update(write, func(ch *change) error {
			j, err := ch.leased(job)
			if err != nil {
				return err
			}
			j.UpdatedAt = ch.now
			if ctx.Err() != nil && !f.superseded { // interrupted, not failed
				j.Attempts--
				release(&j, ch.now)
				return ch.UpdateJob(j)
			}
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

// parks reports whether a job is given up after an attempt that failed.
func (r *Runner) parks(j agent.Job, f failure) bool {
	return f.outage == 0 && (f.final || j.Attempts >= r.attempts)
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
		err = ch.DeleteJob(j.ID)
	case f.outage > 0: // an attempt that does not count
		end, ch.jobs = endWaits, true
		j.Attempts--
		release(&j, ch.now.Add(r.backoff.after(f.outage)))
		err = ch.UpdateJob(j)
	case r.parks(j, f):
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
