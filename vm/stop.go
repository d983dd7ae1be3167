package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// Stop switches the instance off: it asks the guest, then presses the power
// button, then ends the machine, then kills it, each with a limit. Stopping an
// instance that is off succeeds. progress is called with a note for each rung.
func (h Host) Stop(ctx context.Context, name string, opts StopOptions, progress func(Progress)) (State, error) {
	dir, err := h.dir(name)
	if err != nil {
		return State{}, err
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return State{Name: name, Status: Stopped}, nil
	}
	lock, err := lockOperation(ctx, dir)
	if err != nil {
		return State{}, err
	}
	defer lock.Unlock()

	state, err := h.current(ctx, dir)
	if err != nil {
		return state, err
	}
	return h.stop(ctx, dir, state, opts, progress)
}

// stop has the supervisor climb down, and does without it when it does not
// answer. The caller holds the operation lock.
func (h Host) stop(ctx context.Context, dir string, state State, opts StopOptions, progress func(Progress)) (State, error) {
	if !state.On() {
		if state.Status != Stopped {
			state.Status = Stopped
			return state, writeState(dir, state)
		}
		return state, nil
	}
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultStopTimeout
	}

	note := notifier(progress)
	if err := h.askToStop(ctx, dir, state, opts, note); err != nil {
		return state, err
	}
	if !state.On() {
		return h.correctEnded(dir, state)
	}

	note("", "the supervisor does not answer: stopping the machine without it")
	if err := h.stopUnsupervised(ctx, dir, state, opts, note); err != nil {
		h.log().Warn("the machine cannot be supervised by this process", "err", err)
	}
	if ctx.Err() != nil {
		return state, ctx.Err()
	}
	if !state.On() {
		return h.correctEnded(dir, state)
	}

	note("", "ending the machine")
	for _, p := range state.Processes {
		if err := endProcess(ctx, p, quitLimit); err != nil {
			return state, fmt.Errorf("stop %s: %w", state.Name, err)
		}
	}
	state.Status, state.LastStop, state.StoppedAt = Stopped, "killed", time.Now()
	state.Processes, state.Supervisor, state.Troubles = nil, Process{}, nil
	return state, writeState(dir, state)
}

// askToStop has the instance's supervisor climb down the ladder and waits for
// the machine's end. Its error is that of ctx: whether the supervisor answered
// is seen by the machine.
func (h Host) askToStop(ctx context.Context, dir string, state State, opts StopOptions, note func(guest.Phase, string)) error {
	limited, cancel := context.WithTimeout(ctx, opts.Timeout+quitLimit+killLimit+5*time.Second)
	defer cancel()
	rung := ""
	err := askSupervisor(limited, dir, request{Request: "stop", Timeout: opts.Timeout.Seconds(), Force: opts.Force}, func(s State) bool {
		if s.LastStop != rung {
			rung = s.LastStop
			note("", rung)
		}
		return s.Status != Stopped
	})
	if ctx.Err() != nil || err != nil {
		return ctx.Err()
	}
	awaitEnd(state.Supervisor, 5*time.Second)
	// One that adopted the machine knows of its end by its last word, which
	// comes a little before.
	awaitEnd(state.Processes[0], time.Second)
	return nil
}

// stopUnsupervised takes the place of a supervisor that does not answer, or that
// no program could be started for, for as long as the stop takes: the same
// ladder from the same rung.
func (h Host) stopUnsupervised(ctx context.Context, dir string, state State, opts StopOptions, note func(guest.Phase, string)) error {
	if err := state.Supervisor.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	awaitEnd(state.Supervisor, killLimit)
	s, err := newSupervisor(ctx, dir, SuperviseOptions{Drivers: h.Drivers, Log: h.log()})
	if err != nil {
		return err
	}
	defer s.unlock()

	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	err = h.askToStop(ctx, dir, state, opts, note)
	cancel()
	return errors.Join(err, ignoreCanceled(<-ended))
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// awaitEnd gives a process some time to end.
func awaitEnd(p Process, limit time.Duration) {
	select {
	case <-p.Done():
	case <-time.After(limit):
	}
}

// troubledStopTimeout is the patience with a guest that may hang.
const troubledStopTimeout = 20 * time.Second

// silentStopTimeout is the patience with a guest that has never spoken.
const silentStopTimeout = 40 * time.Second

// stop starts the ladder. While one is climbed already, a request that has less
// patience begins it anew, and any other changes nothing.
func (s *supervisor) stop(ctx context.Context, r request) {
	total := DefaultStopTimeout
	if r.Timeout > 0 {
		total = time.Duration(r.Timeout * float64(time.Second))
	}
	end := time.Now().Add(total)
	switch {
	case !s.stopping:
		s.crashed = s.state.crashed()
	case r.Force && !s.forced, end.Before(s.stopBy):
		s.cancelLadder()
	default:
		return
	}
	s.stopping, s.forced, s.stopBy = true, s.forced || r.Force, end
	s.state.Status, s.state.StopTimeout = Stopping, total.Seconds()

	hanging := func(t Trouble) bool { return t.Part != portsPart && t.Part != ecosystemPart } // on its share or its disk
	if slices.ContainsFunc(s.state.Troubles, hanging) {
		total = min(total, troubledStopTimeout)
	}

	l := ladder{machine: s.machine, exited: s.exited, stopped: s.stopped, rungs: s.rungs, log: s.log, total: total}
	if s.guestSpoke && !s.forced && !s.crashed {
		l.askGuest = s.askGuest
	}
	l.skipPowerDown = s.forced || s.crashed
	if !s.guestSpoke { // early in its boot a guest does not feel the button
		l.total = min(l.total, silentStopTimeout)
	}
	ctx, s.cancelLadder = context.WithCancel(ctx)
	go l.climb(ctx)
}

// askGuest has the guest stop its workspaces. A guest whose agent is dead does
// not say that it heard, and is not waited for.
func (s *supervisor) askGuest(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, hearLimit, errors.New("the guest's agent does not answer"))
	defer cancel()
	select {
	case s.guest.send <- guest.RequestShutdown:
	case <-s.exited:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}

	select {
	case <-s.shutdownHeard:
	case <-s.exited:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}
