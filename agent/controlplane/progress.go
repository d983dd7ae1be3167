package controlplane

import (
	"context"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// progressPause is how often what is told of progress is stored, at most.
const progressPause = time.Second

// withProgress has the work of the present step tell how far it is: that is the
// step's message until the step ends.
func (a *attempt) withProgress(ctx context.Context) context.Context {
	var mu sync.Mutex
	var last time.Time
	step := a.step
	return agent.WithProgress(ctx, func(text string) {
		mu.Lock()
		defer mu.Unlock()
		now := a.c.now()
		if !last.IsZero() && now.Sub(last).Abs() < progressPause {
			return
		}
		last = now
		err := a.c.update(ctx, func(ch *change) error {
			if _, err := ch.leased(a.job); err != nil {
				return err
			}
			step.Message = text
			return ch.putStep(step)
		})
		if err != nil && ctx.Err() == nil {
			a.log.Debug("progress is not shown", "progress", text, "err", err)
		}
	})
}
