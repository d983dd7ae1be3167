// Package boot is the use case that watches the VM come up: it asks the init
// system which phases are over and the stack whether it serves, and records
// what it learns in an [agent.BootRecord]. It owns no other state and imports
// only the domain and the names of package guest.
package boot

import (
	"context"
	"log/slog"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/guest"
)

// Watch watches one boot. All fields must be set.
type Watch struct {
	Init   agent.Init
	Stack  agent.Stack
	Record *agent.BootRecord
	Uptime func() time.Duration // since the kernel's start
	Log    *slog.Logger

	Fast time.Duration // between two looks while the VM comes up
	Slow time.Duration // between two looks for failed units later
}

// Run watches until ctx ends. It returns nothing: what cannot be learnt is
// logged once and tried again.
func (w *Watch) Run(ctx context.Context) {
	tick := time.NewTicker(w.Fast)
	defer tick.Stop()
	var ready, told bool
	for n := 0; ; n++ {
		if !ready && w.Stack.Ready(ctx) == nil {
			ready = true
			at := w.Uptime()
			w.Record.Add(agent.BootEvent{Ready: true, At: at})
			w.Log.Info("ready", "seconds", at.Seconds())
		}
		// The init system is asked rarely while the VM is busy coming up:
		// its times do not depend on when they are read.
		if ready || n%5 == 0 {
			if err := w.look(ctx); err != nil && !told && ctx.Err() == nil {
				told = true
				w.Log.Warn("boot phases are not known", "err", err)
			}
		}
		if ready {
			tick.Reset(w.Slow)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look records what the init system knows.
func (w *Watch) look(ctx context.Context) error {
	phases, err := w.Init.Phases(ctx)
	if err != nil {
		return err
	}
	for _, p := range guest.Phases() {
		if at, ok := phases[p]; ok {
			w.Record.Add(agent.BootEvent{Phase: p, At: at})
		}
	}
	failed, err := w.Init.FailedUnits(ctx)
	if err != nil {
		return err
	}
	for _, f := range failed {
		if w.Record.Add(agent.BootEvent{Failed: f}) {
			w.Log.Error("unit failed", "unit", f.Unit, "message", f.Message)
		}
	}
	return nil
}
