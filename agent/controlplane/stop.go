package controlplane

import (
	"context"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// stopSteps are the steps of a stop. Only a workspace that ran has an address,
// and preferences to ask for: one that is stopped on its way up may not have
// been given its own yet.
func (a *attempt) stopSteps() []jobStep {
	var steps []jobStep
	if a.rec.AutoSyncPrefs && a.rec.Address != "" {
		steps = append(steps, jobStep{name: agent.StepPreferences, title: "Saving your preferences", limit: 2 * time.Minute, do: func(ctx context.Context) error {
			return a.c.takePreferences(ctx, a.rec, a.log)
		}})
	}
	return append(steps, jobStep{name: agent.StepStop, title: "Stopping the container", limit: a.c.cfg.StopGrace + 2*time.Minute, do: func(ctx context.Context) error {
		err := a.c.cfg.Runtime.Stop(ctx, a.rec.ID, a.c.cfg.StopGrace)
		if agent.ErrorCode(err) == agent.CodeNotFound {
			return nil // what is not there is stopped
		}
		return err
	}})
}

// arriveStopped stores that the workspace is stopped and has no ports any
// more, unless only a container was stopped that should not have run.
func (a *attempt) arriveStopped(ch *change) error {
	rec, err := ch.Workspace(a.rec.ID)
	if err != nil || rec.Status != a.kind.during {
		return err
	}
	if err := ch.forgetPorts(rec.ID); err != nil {
		return err
	}
	return a.arriveAt(ch, "")
}
