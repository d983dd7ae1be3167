package controlplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// shutdownAtOnce is how many containers a shutdown asks the runtime about at the
// same time.
const shutdownAtOnce = 8

// preferencesShare is the part of a shutdown's time that goes to preferences at
// most: one in so many.
const preferencesShare = 3

// stopAll stops containers until ctx ends. First all are asked to end, so that
// the time they have for it passes for all at once and not for a few after a
// few; then each is stopped, which only those have to be forced to that took no
// notice.
func (c *ControlPlane) stopAll(ctx context.Context, all []agent.Record) error {
	asked := make([]time.Time, len(all)) // zero where the container was not asked
	preferences, cancel := context.WithTimeout(ctx, c.preferencesTime(ctx))
	defer cancel()
	askErr := eachAtOnce(all, func(i int, rec agent.Record) error {
		if rec.Status == agent.StatusRunning && rec.AutoSyncPrefs && ctx.Err() == nil {
			c.keepPreferences(preferences, rec)
		}
		if err := c.terminate(ctx, rec); err != nil {
			return err
		}
		asked[i] = c.now()
		return nil
	})
	stopErr := eachAtOnce(all, func(i int, rec agent.Record) error {
		grace := c.cfg.StopGrace
		if at := asked[i]; !at.IsZero() {
			grace = max(0, grace-c.now().Sub(at).Abs())
		}
		err := c.cfg.Runtime.Stop(ctx, rec.ID, grace)
		if err != nil && agent.ErrorCode(err) != agent.CodeNotFound {
			return fmt.Errorf("stop workspace %s: %w", rec.Name, err)
		}
		return nil
	})

	if stopErr == nil {
		return nil // all are stopped, whether they were asked or not
	}
	return errors.Join(askErr, stopErr)
}

// preferencesTime is how long preferences of all workspaces may take.
func (c *ControlPlane) preferencesTime(ctx context.Context) time.Duration {
	if end, limited := ctx.Deadline(); limited {
		return max(0, time.Until(end)/preferencesShare)
	}
	return time.Minute
}

// keepPreferences takes those of a workspace that is to keep them. What fails is
// noted: a shutdown does not wait for it.
func (c *ControlPlane) keepPreferences(ctx context.Context, rec agent.Record) {
	log := c.cfg.Log.With("workspace", rec.ID)
	if err := c.takePreferences(ctx, rec, log); err != nil {
		log.Warn("preferences are not synchronised", "err", err)
	}
}

func (c *ControlPlane) terminate(ctx context.Context, rec agent.Record) error {
	if err := c.cfg.Terminator.Terminate(ctx, rec.ID); err != nil {
		return fmt.Errorf("ask workspace %s to end: %w", rec.Name, err)
	}
	return nil
}

// eachAtOnce does something for all that may run, a few at the same time.
func eachAtOnce(all []agent.Record, do func(i int, rec agent.Record) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	turns := make(chan struct{}, shutdownAtOnce)
	for i, rec := range all {
		if rec.Status == agent.StatusStopped {
			continue
		}
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			errs[i] = do(i, rec)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
