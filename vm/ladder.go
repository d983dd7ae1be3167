package vm

import (
	"context"
	"log/slog"
	"time"
)

// ladder switches a machine off, each rung harder than the one before and
// each with a limit: ask the guest, press the power button, quit, kill.
type ladder struct {
	machine       Machine
	exited        <-chan struct{}
	stopped       <-chan struct{}             // the guest has stopped its workspaces and synced its disks
	askGuest      func(context.Context) error // passes the request to the guest, which says that it heard; nil when nobody listens there
	skipPowerDown bool
	rungs         chan<- string
	log           *slog.Logger
	total         time.Duration
}

// Limits of the hard rungs, and of the guest's first word. They are below what
// a user waits for.
const (
	hearLimit = 5 * time.Second
	quitLimit = 5 * time.Second
	killLimit = 5 * time.Second
)

// climb takes rung after rung until the machine is off or the last is tried.
func (l ladder) climb(ctx context.Context) {
	if l.askGuest != nil && l.tryRung(ctx, "asked the guest", l.total*6/10, l.stopped, l.askGuest) {
		return
	}
	if !l.skipPowerDown && l.tryRung(ctx, "power button", l.total*4/10, nil, l.method(PowerDown)) {
		return
	}
	if ctx.Err() != nil { // another ladder has begun, or the supervisor ends
		return
	}
	if l.tryRung(ctx, "quit", quitLimit, nil, l.method(Quit)) {
		return
	}
	l.tryRung(ctx, "killed", killLimit, nil, l.method(Kill))
}

func (l ladder) method(how StopMethod) func(context.Context) error {
	return func(ctx context.Context) error { return l.machine.Stop(ctx, how) }
}

// tryRung does one rung and waits until its limit, until next is closed, or
// until the machine is off, which it returns.
func (l ladder) tryRung(ctx context.Context, name string, limit time.Duration, next <-chan struct{}, do func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case l.rungs <- name:
	default:
	}

	start := time.Now()
	if err := do(ctx); err != nil {
		l.log.Warn("stop", "rung", name, "err", err)
		return false
	}

	select {
	case <-l.exited:
		return true
	case <-next:
		l.log.Info("stop", "rung", name, "seconds", round(time.Since(start).Seconds()))
	case <-ctx.Done():
		l.log.Warn("stop", "rung", name, "err", "no effect", "limit", limit)
	}
	return false
}
