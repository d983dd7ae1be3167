package controlplane

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// attempt is one try at a job. Its steps all ensure something, so that the
// first try, a retry and the recovery after a crash are the same.
type attempt struct {
	c   *ControlPlane
	job agent.Job
	log *slog.Logger

	rec     agent.Record // the workspace, as it was when the attempt began
	step    agent.Step   // the one it is at
	address string       // found by the health step
}

// work is a named part of a job.
type work struct {
	name, title string
	limit       time.Duration
	do          func(context.Context) error
	done        func(*agent.Record) // what its success changes in the row
}

// run makes the attempt. When it returns nil the job is done and its row is
// gone.
func (a *attempt) run(ctx context.Context) error {
	rec, err := a.c.record(ctx, a.job.WorkspaceID)
	if err != nil {
		return err
	}
	a.rec = rec
	a.step.Title = "The work"              // until it comes to a step
	if a.job.Attempts > a.c.cfg.Attempts { // each one ended with the agent
		return fmt.Errorf("%w: %w", errInterrupted, agent.Errorf(agent.CodeInternal, "The work on this workspace was interrupted %d times. Try again.", a.c.cfg.Attempts))
	}
	if a.rec.Cloned, err = a.stillCloned(ctx); err != nil {
		return err
	}
	var before *work
	for i, w := range a.plan() {
		if err := a.enter(ctx, i == 0, before, w); err != nil {
			return err
		}
		if err := a.limited(ctx, w); err != nil {
			return err
		}
		before = &w
	}
	return a.commit(ctx, before)
}

// stillCloned reports whether the work tree that was cloned once can be
// there: not when the volume is gone, as after the restore of a database on
// another disk.
func (a *attempt) stillCloned(ctx context.Context) (bool, error) {
	if !a.rec.Cloned || !provisions(a.job.Kind) {
		return a.rec.Cloned, nil
	}
	refs, err := a.c.cfg.Inventory.List(ctx)
	if err != nil {
		return false, fmt.Errorf("look for the volume: %w", err)
	}
	return slices.ContainsFunc(refs, func(ref agent.ContainerRef) bool { return ref.ID == a.rec.ID && ref.HasHome }), nil
}

func (a *attempt) limited(ctx context.Context, w work) error {
	ctx, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	if err := w.do(ctx); err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	return nil
}

// provisions reports whether jobs of a kind lead to a workspace that runs.
func provisions(k agent.JobKind) bool { return k == agent.JobCreate || k == agent.JobStart }

// plan lists the job's steps but the last, the commit.
func (a *attempt) plan() []work {
	switch a.job.Kind {
	case agent.JobStop:
		return a.stopPlan()
	case agent.JobDelete:
		return []work{{name: agent.StepRemove, title: "Deleting the files", limit: 10 * time.Minute, do: func(ctx context.Context) error {
			return a.c.cfg.Runtime.Remove(ctx, a.rec.ID)
		}}}
	}
	return a.provisionPlan()
}

func (a *attempt) provisionPlan() []work {
	rt, id := a.c.cfg.Runtime, a.rec.ID
	clone := a.clone()
	steps := []work{
		{name: agent.StepContainer, title: "Preparing the container", limit: 15 * time.Minute, do: func(ctx context.Context) error {
			return rt.Create(ctx, agent.Container{ID: id, Name: a.rec.Name, Image: a.rec.Image, Port: a.rec.Port, Slot: a.rec.Slot})
		}},
		{name: agent.StepStart, title: "Starting the container", limit: 5 * time.Minute, do: func(ctx context.Context) error {
			return rt.Start(ctx, id)
		}},
		{name: agent.StepConfigure, title: "Configuring the IDE", limit: 2 * time.Minute, do: func(ctx context.Context) error {
			return rt.Configure(ctx, id, agent.IDEConfig{Name: a.rec.Name, Folder: clone.Folder})
		}},
	}
	if clone.URL != "" && !a.rec.Cloned {
		steps = append(steps, work{name: agent.StepClone, title: "Cloning the repository", limit: 30 * time.Minute, do: func(ctx context.Context) error {
			return rt.Clone(ctx, id, clone)
		}, done: func(rec *agent.Record) { rec.Cloned = true }})
	}
	return append(steps,
		work{name: agent.StepHealth, title: "Waiting for the IDE", limit: a.c.cfg.HealthTimeout + time.Minute, do: a.health},
		work{name: agent.StepPreferences, title: "Applying your preferences", limit: 2 * time.Minute, do: a.pushPreferences},
	)
}

func (a *attempt) stopPlan() []work {
	var steps []work
	if a.rec.AutoSyncPrefs && a.rec.Status == agent.StatusStopping {
		steps = append(steps, work{name: agent.StepPreferences, title: "Saving your preferences", limit: 2 * syncTimeout, do: func(ctx context.Context) error {
			a.c.syncPreferences(ctx, a.rec, a.log)
			return ctx.Err()
		}})
	}
	return append(steps, work{name: agent.StepStop, title: "Stopping the container", limit: a.c.cfg.StopGrace + 2*time.Minute, do: func(ctx context.Context) error {
		err := a.c.cfg.Runtime.Stop(ctx, a.rec.ID, a.c.cfg.StopGrace)
		if agent.ErrorCode(err) == agent.CodeNotFound {
			return nil // what is not there is stopped
		}
		return err
	}})
}

// health waits until the IDE answers, or ends, or the time is over.
func (a *attempt) health(ctx context.Context) error {
	address, err := a.c.cfg.Runtime.Address(ctx, a.rec.ID)
	if err != nil {
		return err
	}
	a.address = address
	ctx, cancel := context.WithTimeout(ctx, a.c.cfg.HealthTimeout)
	defer cancel()
	for n := 1; ; n++ {
		err := a.c.healthy(ctx, address)
		if err == nil {
			return nil
		}
		if n%8 == 0 {
			if err := a.stillRuns(ctx); err != nil {
				return err
			}
		}
		if !a.c.sleep(ctx, a.c.cfg.HealthInterval, nil) {
			return a.unhealthy(ctx, err)
		}
	}
}

// probeTimeout bounds one question to an IDE.
const probeTimeout = 5 * time.Second

func (c *ControlPlane) healthy(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return c.cfg.Health.Healthy(ctx, address)
}

func (a *attempt) stillRuns(ctx context.Context) error {
	status, err := a.c.cfg.Runtime.Status(ctx, a.rec.ID)
	if err == nil && status != agent.ContainerRunning {
		return agent.Errorf(agent.CodeInternal, "The workspace's processes ended right after their start. The workspace's log says why.")
	}
	return err
}

func (a *attempt) unhealthy(ctx context.Context, last error) error {
	if context.Cause(ctx) != context.DeadlineExceeded {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", agent.Errorf(agent.CodeInternal, "The IDE did not answer within %s.", a.c.cfg.HealthTimeout), last)
}

func (a *attempt) pushPreferences(ctx context.Context) error {
	list, err := a.c.ListPreferences(ctx)
	if err != nil {
		return err
	}
	for _, p := range list {
		name := agent.PreferencePath(p.Name)
		if name == "" {
			continue // of another release
		}
		if err := a.c.cfg.Runtime.WriteFile(ctx, a.rec.ID, name, []byte(p.Blob)); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

// enter stores that the step before is done and that w begins.
func (a *attempt) enter(ctx context.Context, first bool, before *work, w work) error {
	return a.c.update(ctx, func(ch *change) error {
		j, err := ch.owned(a.job.ID, a.job.WorkspaceID, a.c.life)
		if err != nil {
			return err
		}
		if first {
			err = ch.ClearSteps(a.rec.ID)
		} else {
			err = a.finish(ch, before)
		}
		if err != nil {
			return err
		}
		a.step = agent.Step{WorkspaceID: a.rec.ID, Job: a.job.Kind, Name: w.name, Title: w.title, State: agent.StepRunning, StartedAt: ch.now}
		if err := ch.step(a.step); err != nil {
			return err
		}
		j.Step, j.UpdatedAt = w.name, ch.now
		return ch.UpdateJob(j)
	})
}

// finish stores that the present step is done, and what that means.
func (a *attempt) finish(ch *change, w *work) error {
	done := a.step
	done.State, done.EndedAt = agent.StepDone, ch.now
	if err := ch.step(done); err != nil || w.done == nil {
		return err
	}
	rec, err := ch.Workspace(a.rec.ID)
	if err != nil {
		return err
	}
	w.done(&rec)
	if w.name == agent.StepClone {
		a.c.tokens.forget(rec.ID)
	}
	return ch.put(&rec)
}

// failStep stores that the present step failed.
func (a *attempt) failStep(ch *change, text string) error {
	if a.step.Name == "" {
		return nil
	}
	failed := a.step
	failed.State, failed.EndedAt, failed.Message = agent.StepFailed, ch.now, text
	return ch.step(failed)
}

// commit is the last step of every job: one transaction after which the row
// says what is, and the job is gone.
func (a *attempt) commit(ctx context.Context, before *work) error {
	return a.c.update(ctx, func(ch *change) error {
		if _, err := ch.owned(a.job.ID, a.job.WorkspaceID, a.c.life); err != nil {
			return err
		}
		if a.job.Kind == agent.JobDelete {
			a.c.tokens.forget(a.rec.ID)
			return ch.remove(a.rec.ID)
		}
		if err := a.finish(ch, before); err != nil {
			return err
		}
		if err := ch.step(agent.Step{WorkspaceID: a.rec.ID, Job: a.job.Kind, Name: agent.StepCommit, Title: "Done", State: agent.StepDone, StartedAt: ch.now, EndedAt: ch.now}); err != nil {
			return err
		}
		if err := ch.DeleteJob(a.job.ID); err != nil {
			return err
		}
		return a.arrive(ch)
	})
}

// arrive stores the state that the job was for.
func (a *attempt) arrive(ch *change) error {
	rec, err := ch.Workspace(a.rec.ID)
	if err != nil {
		return err
	}
	to, address := agent.StatusRunning, a.address
	if a.job.Kind == agent.JobStop {
		if rec.Status != agent.StatusStopping {
			return nil // a container was stopped that should not have run
		}
		to, address = agent.StatusStopped, ""
		if err := ch.forgetPorts(rec.ID); err != nil {
			return err
		}
	}
	if err := agent.Transition(rec.Status, to); err != nil {
		return err
	}
	rec.Status, rec.Address, rec.ErrorMessage = to, address, ""
	return ch.put(&rec)
}

// clone is what to clone into the workspace: without a URL nothing.
func (a *attempt) clone() agent.Clone {
	url, folder := cloneTarget(a.rec.RepositoryID, a.c.cfg.CloneBaseURL)
	return agent.Clone{URL: url, Folder: folder, Token: a.c.tokens.get(a.rec.ID)}
}

// plainName is a name for a folder that no program of the workspace's uses.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// cloneTarget is the address and the folder for a repository as it was asked
// for: owner/repo below base, or a whole URL.
func cloneTarget(repository, base string) (address, folder string) {
	if repository == "" {
		return "", ""
	}
	address = repository
	if !strings.Contains(repository, "://") {
		address = strings.TrimSuffix(base, "/") + "/" + repository + ".git"
	}
	name := "repository"
	if u, err := url.Parse(address); err == nil {
		last := strings.TrimLeft(strings.TrimSuffix(path.Base(strings.TrimRight(u.Path, "/")), ".git"), ".")
		if plainName.MatchString(last) {
			name = last
		}
	}
	return address, path.Join(agent.Home, name)
}
