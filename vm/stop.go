package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
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
	say := sayer(progress)
	limited, cancel := context.WithTimeout(ctx, opts.Timeout+quitLimit+killLimit+5*time.Second)
	defer cancel()
	rung := ""
	err := ask(limited, dir, request{Request: "stop", Timeout: opts.Timeout.Seconds(), Force: opts.Force}, func(s State) bool {
		if s.LastStop != rung {
			rung = s.LastStop
			say("", rung)
		}
		return s.Status != Stopped
	})
	if ctx.Err() != nil {
		return state, ctx.Err()
	}
	if err == nil {
		await(state.Supervisor, 5*time.Second)
		// One that adopted the machine knows of its end by its last word, which
		// comes a little before.
		await(state.Processes[0], time.Second)
	}
	if !state.On() {
		return h.buried(dir, state)
	}
	say("", "the supervisor does not answer: ending the machine without it")
	for _, p := range append([]Process{state.Supervisor}, state.Processes...) {
		if p.Alive() {
			if err := end(ctx, p, quitLimit); err != nil {
				return state, fmt.Errorf("stop %s: %w", state.Name, err)
			}
		}
	}
	state.Status, state.LastStop, state.StoppedAt = Stopped, "killed", time.Now()
	state.Processes, state.Supervisor, state.Troubles = nil, Process{}, nil
	return state, writeState(dir, state)
}

// await gives a process some time to end.
func await(p Process, limit time.Duration) {
	select {
	case <-p.Done():
	case <-time.After(limit):
	}
}
