package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// provisionSteps are the steps of kinds that lead to a workspace that runs.
func (a *attempt) provisionSteps() []jobStep {
	rt, id := a.c.cfg.Runtime, a.rec.ID
	clone := a.clone()
	var steps []jobStep
	if move, ok := a.imageStep(); ok {
		steps = append(steps, move)
	}
	steps = append(steps, []jobStep{
		{name: agent.StepContainer, title: "Preparing the container", limit: time.Hour, do: func(ctx context.Context) error {
			limits := a.limits(ctx)
			err := rt.Create(a.withProgress(ctx), agent.Container{ID: id, Name: a.rec.Name, Image: a.rec.Image, Port: a.rec.Port, Slot: a.rec.Slot, Memory: limits.Memory, Quota: limits.Disk})
			if err == nil {
				a.noteImage(ctx)
			}
			return err
		}, done: func(rec *agent.Record) {
			if a.image != "" {
				rec.ImageDigest = a.image
			}
		}},
		{name: agent.StepStart, title: "Starting the container", limit: 5 * time.Minute, do: func(ctx context.Context) error {
			if err := rt.Start(ctx, id); err != nil {
				return err
			}
			// The container may have been made when the limit was another.
			if err := a.c.cfg.Memory.SetMemory(ctx, id, a.limits(ctx).Memory); err != nil {
				a.log.Warn("the limit of the memory stays as it was", "err", err)
			}
			return nil
		}},
		{name: agent.StepConfigure, title: "Configuring the IDE", limit: 2 * time.Minute, do: func(ctx context.Context) error {
			err := a.configure(ctx, agent.IDEConfig{Name: a.rec.Name, Folder: clone.Folder})
			if agent.ErrorCode(err) == agent.CodeConflict {
				err = cmp.Or(a.stillRuns(ctx), err) // it has ended already
			}
			return err
		}},
	}...)

	if clone.URL != "" && !a.rec.Cloned {
		steps = append(steps, jobStep{name: agent.StepClone, title: "Cloning the repository", limit: 30 * time.Minute, do: func(ctx context.Context) error {
			return rt.Clone(ctx, id, clone)
		}, done: func(rec *agent.Record) {
			rec.Cloned = true
			a.c.tokens.forget(rec.ID)
		}})
	}

	return append(steps,
		jobStep{name: agent.StepHealth, title: "Waiting for the IDE", limit: a.c.cfg.HealthTimeout + time.Minute, do: a.health},
		jobStep{name: agent.StepPreferences, title: "Applying your preferences", limit: 2 * time.Minute, do: a.pushPreferences},
	)
}

// limits are what the workspace may use in this VM.
func (a *attempt) limits(ctx context.Context) agent.Limits {
	return a.c.capacity(ctx).Of(a.rec.Limits)
}

// configure tells the IDE what it serves. A file of the user's in the way, and
// files that take all that they may, are noted: the IDE works without, or with
// the configuration that it had, and it is where the user can mend that.
func (a *attempt) configure(ctx context.Context, ide agent.IDEConfig) error {
	err := a.c.cfg.Runtime.Configure(ctx, a.rec.ID, ide)
	switch agent.ErrorCode(err) {
	case agent.CodeUnusableFile, agent.CodeNoSpace:
		a.log.Warn("the IDE is not configured", "err", err)
		return a.c.noteFault(ctx, a.rec.ID, agent.IDEConfiguration, err)
	}
	if err != nil {
		return err
	}
	return a.c.clearNote(ctx, a.rec.ID, agent.IDEConfiguration)
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
		if !sleep(ctx, a.c.cfg.HealthInterval, nil) {
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

// ownImage reports whether the workspace is made from an image of the user's
// own. One in which no IDE starts gets no better by being started again.
func (a *attempt) ownImage() bool { return a.rec.Image != agent.DefaultImage }

// stillRuns says why a workspace that was started does not run.
func (a *attempt) stillRuns(ctx context.Context) error {
	status, err := a.c.cfg.Runtime.Status(ctx, a.rec.ID)
	if err == nil && status != agent.ContainerRunning {
		if a.ownImage() {
			return agent.Errorf(agent.CodeValidation, "The program of the image %q ended right after its start. The workspace's log says why.", a.rec.Image)
		}
		return agent.Errorf(agent.CodeInternal, "The workspace's processes ended right after their start. The workspace's log says why.")
	}
	return err
}

func (a *attempt) unhealthy(ctx context.Context, last error) error {
	if context.Cause(ctx) != context.DeadlineExceeded {
		return ctx.Err()
	}
	if a.ownImage() {
		return fmt.Errorf("%w: %w", agent.Errorf(agent.CodeValidation, "No IDE answered within %s. An image for workspaces starts code-server on port 8080, which %q did not.", a.c.cfg.HealthTimeout, a.rec.Image), last)
	}
	return fmt.Errorf("%w: %w", agent.Errorf(agent.CodeInternal, "The IDE did not answer within %s.", a.c.cfg.HealthTimeout), last)
}

// arriveRunning stores that the workspace runs.
func (a *attempt) arriveRunning(ch *change) error {
	ch.then = append(ch.then, func() { wakeUp(a.c.untidy) })
	return a.arriveAt(ch, a.address)
}

// arriveAt stores the state that the job's kind leads to, and the address of
// the workspace in it.
func (a *attempt) arriveAt(ch *change, address string) error {
	rec, err := ch.Workspace(a.rec.ID)
	if err != nil {
		return err
	}
	if err := agent.Transition(rec.Status, a.kind.leadsTo); err != nil {
		return err
	}
	rec.Status, rec.Address, rec.ErrorMessage = a.kind.leadsTo, address, ""
	ch.then = append(ch.then, a.c.disk.changed) // its files are there, or not at work
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
