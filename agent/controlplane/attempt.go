package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// errUnknownKind says that a job is of a kind that this release does not have.
var errUnknownKind = errors.New("unknown kind of job")

// attempt is one try at a job: it goes through the steps of the job's kind. It
// implements [jobAttempt].
type attempt struct {
	c   *ControlPlane
	job agent.Job
	log *slog.Logger

	kind    jobKind
	rec     agent.Record // the workspace, as it was when the attempt began
	step    agent.Step   // the one it is at
	address string       // found by the health step
	image   string       // digest, found by the container step; "" when it is not known

	working  bool // a step is at its work: what fails now is the runtime or the workspace
	answered bool // the runtime answered since the last attempt failed
}

// jobStep is a named part of a job.
type jobStep struct {
	name, title string
	limit       time.Duration
	do          func(context.Context) error
	done        func(*agent.Record) // what its success changes in the row
}

// newAttempt makes an attempt at a job.
func (c *ControlPlane) newAttempt(job agent.Job) jobAttempt {
	return &attempt{
		c: c, job: job,
		log:  c.cfg.Log.With("workspace", job.WorkspaceID, "job", job.Kind, "attempt", job.Attempts),
		step: agent.Step{Title: "The work"}, // until it comes to a step
	}
}

// run implements [jobAttempt].
func (a *attempt) run(ctx context.Context) error {
	kind, ok := a.c.kinds.of(a.job.Kind)
	if !ok {
		return fmt.Errorf("%w: %w", errUnknownKind, agent.Errorf(agent.CodeInternal,
			"This release does not know the work %q that was asked for. Start or delete the workspace, or go back to the release that began it.", a.job.Kind))
	}
	a.kind = kind
	release, err := a.c.locks.acquire(ctx, a.job.WorkspaceID)
	if err != nil {
		return err
	}
	defer release()
	rec, err := a.c.record(ctx, a.job.WorkspaceID)
	if err != nil {
		return err
	}
	a.rec = rec
	if err := a.askAgain(ctx); err != nil {
		return err
	}
	if err := a.lookForHome(ctx); err != nil {
		return err
	}

	var before *jobStep
	for _, s := range kind.steps(a) {
		if err := a.enter(ctx, before, s); err != nil {
			return err
		}
		a.working = true
		if err := s.limited(ctx); err != nil {
			return a.c.whoseSpace(ctx, a.rec.ID, err)
		}
		a.working = false
		before = &s
	}
	return a.commit(ctx, before)
}

// askAgain asks the runtime anything at all before an attempt that is not the
// first one. When it answers, and goes away at a step's work once more, that is
// the job's own doing, which ends: other outages last as long as they last.
func (a *attempt) askAgain(ctx context.Context) error {
	if a.job.LastError == "" {
		return nil
	}
	_, err := a.c.cfg.Runtime.Status(ctx, a.rec.ID)
	a.answered = err == nil
	if agent.ErrorCode(err) == agent.CodeUnavailable {
		return err
	}
	return nil
}

// lookForHome forgets what the row knows of a home directory that is not there,
// as after the restore of a database on another disk: the work tree that was
// cloned, and what files had in common with preferences.
func (a *attempt) lookForHome(ctx context.Context) error {
	if !a.kind.provisions {
		return nil
	}
	copies, err := a.preferenceCopies(ctx)
	if err != nil || !a.rec.Cloned && len(copies) == 0 {
		return err
	}
	refs, err := a.c.cfg.Inventory.List(ctx)
	if err != nil {
		return fmt.Errorf("look for the files: %w", err)
	}
	files, err := a.c.listFiles(ctx)
	if err != nil {
		return err
	}
	refs = withFiles(refs, files)
	if slices.ContainsFunc(refs, func(ref agent.ContainerRef) bool { return ref.ID == a.rec.ID && ref.HasHome }) {
		return nil
	}

	a.rec.Cloned = false // for this attempt, and in the row for those after it
	return a.c.update(ctx, func(ch *change) error {
		if _, err := ch.leased(a.job); err != nil {
			return err
		}
		rec, err := ch.Workspace(a.rec.ID)
		if err != nil {
			return err
		}
		if rec.Cloned {
			rec.Cloned = false
			if err := ch.put(&rec); err != nil {
				return err
			}
		}
		for _, name := range copies {
			ch.preferenceChanged(name)
		}
		return ch.ForgetPreferenceCopies(a.rec.ID)
	})
}

// preferenceCopies names the preferences of whose file in the workspace
// something is known.
func (a *attempt) preferenceCopies(ctx context.Context) (names []string, err error) {
	err = a.c.cfg.Store.View(ctx, func(tx agent.Tx) error {
		for _, name := range agent.PreferenceNames() {
			known, err := tx.PreferenceCopy(a.rec.ID, name)
			if err != nil {
				return err
			}
			if known.Base.Exists || known.Kind != agent.NoteNone {
				names = append(names, name)
			}
		}
		return nil
	})
	return names, err
}

// limited does what the step is for, within its time.
func (s jobStep) limited(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	if err := s.do(ctx); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// enter stores that the step before, if there was one, is done and that s
// begins.
func (a *attempt) enter(ctx context.Context, before *jobStep, s jobStep) error {
	return a.c.update(ctx, func(ch *change) error {
		j, err := ch.leased(a.job)
		if err != nil {
			return err
		}
		if before == nil {
			err = ch.ClearSteps(a.rec.ID)
		} else {
			err = a.finish(ch, before)
		}
		if err != nil {
			return err
		}

		a.step = agent.Step{WorkspaceID: a.rec.ID, Job: a.job.Kind, Name: s.name, Title: s.title, State: agent.StepRunning, StartedAt: ch.now}
		if err := ch.putStep(a.step); err != nil {
			return err
		}
		j.Step, j.UpdatedAt = s.name, ch.now
		if err := a.notSuperseded(ch, j); err != nil {
			return err
		}
		return ch.UpdateJob(j)
	})
}

// notSuperseded is [errSuperseded] when a job that was asked for meanwhile
// takes the place of this one at its present step.
func (a *attempt) notSuperseded(ch *change, j agent.Job) error {
	jobs, err := ch.liveJobs(j.WorkspaceID)
	if err == nil && a.c.kinds.superseded(j, jobs) {
		return errSuperseded
	}
	return err
}

// finish stores that the present step is done, and what that means.
func (a *attempt) finish(ch *change, s *jobStep) error {
	done := a.step
	done.State, done.EndedAt, done.Message = agent.StepDone, ch.now, ""
	if err := ch.putStep(done); err != nil || s.done == nil {
		return err
	}
	rec, err := ch.Workspace(a.rec.ID)
	if err != nil {
		return err
	}
	before := rec
	if s.done(&rec); rec == before {
		return nil
	}
	return ch.put(&rec)
}

// commit is the last step of every job: one transaction after which the row
// says what is, and the job is gone.
func (a *attempt) commit(ctx context.Context, before *jobStep) error {
	return a.c.update(ctx, func(ch *change) error {
		j, err := ch.leased(a.job)
		if err != nil {
			return err
		}
		if err := a.notSuperseded(ch, j); err != nil {
			return err
		}
		if a.kind.removes { // steps and jobs go with the row
			return a.kind.arrive(a, ch)
		}

		if err := a.finish(ch, before); err != nil {
			return err
		}
		if err := ch.putStep(agent.Step{WorkspaceID: a.rec.ID, Job: a.job.Kind, Name: agent.StepCommit, Title: "Done", State: agent.StepDone, StartedAt: ch.now, EndedAt: ch.now}); err != nil {
			return err
		}
		if err := ch.DeleteJob(a.job.ID); err != nil {
			return err
		}
		return a.kind.arrive(a, ch)
	})
}

// done implements [jobAttempt].
func (a *attempt) done(ctx context.Context) {
	if a.kind.provisions {
		a.c.watch(ctx, a.job.WorkspaceID)
	}
}

// abandonTime bounds the end of a container whose workspace goes into error,
// beyond the grace for its processes.
const abandonTime = 30 * time.Second

// abandon implements [jobAttempt]: a workspace in error has no container that
// runs. Its log stays, as its files do. What could not be stopped is found by
// reconciliation.
func (a *attempt) abandon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, a.c.cfg.StopGrace+abandonTime)
	defer cancel()
	err := a.c.cfg.Runtime.Stop(ctx, a.job.WorkspaceID, a.c.cfg.StopGrace)
	if err != nil && agent.ErrorCode(err) != agent.CodeNotFound {
		a.log.Warn("the container of a workspace in error was not stopped", "err", a.c.tokens.scrub(a.job.WorkspaceID, err.Error()))
	}
}

// settle implements [jobAttempt]: the step has failed, and the workspace says
// what it waits for or why its job was given up.
func (a *attempt) settle(ch *change, f failure, end attemptEnd) error {
	if end == endCancelled {
		return nil // the steps are those of the job behind it
	}
	if a.step.Name != "" {
		failed := a.step
		failed.State, failed.EndedAt, failed.Message = agent.StepFailed, ch.now, f.text
		if err := ch.putStep(failed); err != nil {
			return err
		}
	}

	if end != endWaits && end != endParked {
		return nil
	}
	rec, err := ch.Workspace(a.job.WorkspaceID)
	if err != nil {
		return err
	}

	switch {
	case rec.Status == agent.StatusError && !a.kind.removes:
		return nil // only a container was to be stopped: why the workspace is in error stays
	case end == endParked: // a clone's token is kept for another start
		rec.Status, rec.Address = agent.StatusError, ""
	case rec.ErrorMessage == f.text:
		return nil
	}

	rec.ErrorMessage = f.text
	return ch.put(&rec)
}

// explain implements [jobAttempt]. Only texts of [agent.Error] are for users.
func (a *attempt) explain(err error) failure {
	id := a.job.WorkspaceID
	f := failure{step: a.step.Name, cause: a.c.tokens.scrub(id, err.Error())}
	e, ok := errors.AsType[*agent.Error](err)
	switch {
	case ok:
		f.text = a.c.tokens.scrub(id, e.Message)
		f.final = a.final(err, e.Code)
		switch {
		case e.Code != agent.CodeUnavailable:
		case a.working && a.answered:
			f.text = fmt.Sprintf("%s failed: what runs the containers went away at it, as it did before.", a.step.Title)
		default:
			f.outage = a.c.view.outage()
		}
	case errors.Is(err, context.DeadlineExceeded):
		f.text = fmt.Sprintf("%s took too long.", a.step.Title)
		f.final = a.step.Name == agent.StepClone // half an hour, again
	default:
		f.text = fmt.Sprintf("%s failed. The agent's log has the details.", a.step.Title)
	}
	return f
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
	return errors.Is(err, errInterrupted) || errors.Is(err, errUnknownKind)
}
