package controlplane

import (
	"context"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// deleteSteps are the steps of a deletion.
func (a *attempt) deleteSteps() []jobStep {
	return []jobStep{{name: agent.StepRemove, title: "Deleting the files", limit: 10 * time.Minute, do: func(ctx context.Context) error {
		return a.c.cfg.Runtime.Remove(ctx, a.rec.ID)
	}}}
}

// arriveGone deletes the row, whose slot may belong to another workspace from
// then on.
func (a *attempt) arriveGone(ch *change) error {
	a.c.tokens.forget(a.rec.ID)
	ch.then = append(ch.then, a.c.disk.changed, func() { wakeUp(a.c.untidy) })
	return ch.remove(a.rec.ID)
}
