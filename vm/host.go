package vm

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"time"
)

// Host is the place where instances live and the use cases on them. All of
// them are idempotent and may be interrupted at any time.
type Host struct {
	Dir        string       // holds one directory for each instance
	Driver     Driver       // for Start; the other verbs use what the instance was started with
	Supervisor []string     // argv of the supervisor program; Start appends its own arguments
	Log        *slog.Logger // may be nil
}

// ErrAlreadyRunning is no failure: the instance that was to start runs.
var ErrAlreadyRunning = errors.New("already running")

// ErrNotRunning says that a verb needs a running instance.
var ErrNotRunning = errors.New("not running")

// StopOptions limits how long Stop may take.
type StopOptions struct {
	Timeout time.Duration // for the whole ladder; 0 is DefaultStopTimeout
	Force   bool          // begin with quit: the guest is not asked
}

// DefaultStopTimeout is enough for a guest that stops workspaces first.
const DefaultStopTimeout = 90 * time.Second

// SSHOptions says what to run in the guest.
type SSHOptions struct {
	Command []string // empty opens a shell; one word is a line for the guest's shell; several are passed on exactly
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
}

// LogOptions selects what Logs shows.
type LogOptions struct {
	Unit   string // a systemd unit of the guest; empty shows the serial log
	Follow bool
	Lines  int // last lines; 0 shows all of the serial log, or 200 of a unit
}

func (h Host) dir(name string) string { return filepath.Join(h.Dir, name) }

// Start switches the instance on and returns once its machine runs; use
// [Host.WaitReady] to wait for the guest. cfg replaces the configuration of an
// earlier start. When the instance runs already its state is returned with
// [ErrAlreadyRunning]. progress may be nil.
func (h Host) Start(ctx context.Context, cfg Config, progress func(Progress)) (State, error) {
	return State{}, errors.ErrUnsupported
}

// WaitReady waits until the guest says that it serves, calling progress for
// every phase as it is reached. It returns early when the guest failed.
func (h Host) WaitReady(ctx context.Context, name string, timeout time.Duration, progress func(Progress)) (State, error) {
	return State{}, errors.ErrUnsupported
}

// Stop switches the instance off: it asks the guest, then presses the power
// button, then ends the machine, then kills it, each with a limit. Stopping an
// instance that is off succeeds.
func (h Host) Stop(ctx context.Context, name string, opts StopOptions, progress func(Progress)) (State, error) {
	return State{}, errors.ErrUnsupported
}

// Status tells what is known of the instance. When its supervisor died and the
// machine did not, another supervisor is started first.
func (h Host) Status(ctx context.Context, name string) (State, error) {
	return State{}, errors.ErrUnsupported
}

// SSH runs the host's ssh client as user admin and returns the command's exit
// code.
func (h Host) SSH(ctx context.Context, name string, opts SSHOptions) (int, error) {
	return -1, errors.ErrUnsupported
}

// Logs writes the serial log, or a unit's journal, to w.
func (h Host) Logs(ctx context.Context, name string, opts LogOptions, w io.Writer) error {
	return errors.ErrUnsupported
}

// Destroy stops the instance and removes everything of it, the data disk too.
// The caller has asked.
func (h Host) Destroy(ctx context.Context, name string) error {
	return errors.ErrUnsupported
}

// List names the instances that exist.
func (h Host) List() ([]string, error) { return nil, errors.ErrUnsupported }
