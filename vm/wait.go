package vm

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// StartReady is [Host.Start] and [Host.WaitReady] in one, also for an instance
// that runs already. An emulated machine that crashes or hangs before its guest
// has said a word is started once more: QEMU without KVM ends once in some
// hundred boots by a failed assertion of its own (iotlb_to_section), and as
// seldom one of the guest's processors gets no timer interrupts any more.
func (h Host) StartReady(ctx context.Context, cfg Config, timeout time.Duration, progress func(Progress)) (State, error) {
	note := notifier(progress)
	state, err := h.startReady(ctx, cfg, timeout, progress)
	if state.Status == Failed && state.Accel == AccelTCG && state.Failure != nil && len(state.Phases) == 0 {
		note("", state.Failure.Error()+": starting it once more")
		state, err = h.startReady(ctx, cfg, timeout, progress)
	}
	return state, err
}

func (h Host) startReady(ctx context.Context, cfg Config, timeout time.Duration, progress func(Progress)) (State, error) {
	state, err := h.Start(ctx, cfg, progress)
	if errors.Is(err, ErrAlreadyRunning) {
		notifier(progress)("", cfg.Name+" is already running")
	} else if err != nil {
		return State{}, err
	}
	if state.Status == Ready {
		return state, nil
	}
	return h.WaitReady(ctx, cfg.Name, timeout, progress)
}

// WaitReady waits until the guest says that it serves, calling progress for
// every phase as it is reached. It returns early when the guest failed.
func (h Host) WaitReady(ctx context.Context, name string, timeout time.Duration, progress func(Progress)) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	state, err := h.follow(ctx, name, progress, func(s State) bool { return s.Status == Ready || s.Status == Failed })
	switch {
	case state.Status == Ready:
		return state, nil
	case errors.Is(err, context.DeadlineExceeded):
		return state, fmt.Errorf("%s is not ready after %s%s: look at `%s`, or wait longer (SSH_WAIT_TIMEOUT)", name, timeout, lastPhase(state), h.command("vm", "logs"))
	case err != nil:
		return state, err
	case state.Failure != nil:
		return state, fmt.Errorf("%s failed: %w", name, state.Failure)
	}
	return state, fmt.Errorf("%s is %s: %w", name, state.Status, ErrNotRunning)
}

// Error makes a Failure an error: its unit and message, on one line.
func (f *Failure) Error() string {
	if f.Unit != "" {
		return f.Unit + ": " + f.Message
	}
	return f.Message
}

func lastPhase(s State) string {
	if len(s.Phases) == 0 {
		return " (the guest has not said anything)"
	}
	return fmt.Sprintf(" (the last phase was %s)", s.Phases[len(s.Phases)-1].Name)
}

// follow watches the instance until done says so, ctx ends or the machine is
// off. A supervisor that dies meanwhile is replaced.
func (h Host) follow(ctx context.Context, name string, progress func(Progress), done func(State) bool) (State, error) {
	dir, err := h.dir(name)
	if err != nil {
		return State{}, err
	}
	start, shown := time.Now(), 0
	show := func(s State) {
		for ; shown < len(s.Phases) && progress != nil; shown++ {
			p := s.Phases[shown]
			progress(Progress{Phase: p.Name, Seconds: p.Seconds, Elapsed: time.Since(start)})
		}
	}

	var dead Process // a supervisor that had ended when the state was read
	for {
		state, err := h.Status(ctx, name)
		ended := !state.On() && !state.Supervisor.Alive() // a living one is about to say how
		if err == nil && ended && state.Supervisor != dead {
			dead = state.Supervisor // it may have said how after the state was read
			continue
		}
		if err != nil || ended || done(state) {
			show(state)
			return state, err
		}

		var last State
		err = askSupervisor(ctx, dir, request{Request: "watch"}, func(s State) bool {
			last = s
			show(s)
			return !done(s)
		})
		if last.Name != "" && done(last) {
			return last, nil
		}
		if ctx.Err() != nil {
			return state, ctx.Err()
		}
		if err != nil { // the supervisor is starting or ending
			select {
			case <-ctx.Done():
				return state, ctx.Err()
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
}
