package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// Host is the place where instances live and the use cases on them. All of
// them are idempotent and may be interrupted at any time.
type Host struct {
	Dir     string  // holds one directory for each instance
	Driver  Driver  // for Start; the other verbs use what the instance was started with
	Drivers Drivers // for Destroy: by the name that the instance remembers

	// Supervisor returns the argument vector of this program as a supervisor,
	// such as "/path/rockpool", "supervise"; "launch DIR" or "attach DIR" is
	// appended. It is a function since a caller may have to compile it first.
	// Start keeps a copy of the program with the instance, which is what the
	// other verbs use: they come here only when that copy is missing or broken.
	Supervisor func(ctx context.Context) ([]string, error)

	// Command is how a user calls a verb, for messages: of "vm", "start" it
	// makes "rockpool vm start" when it is nil.
	Command func(verb ...string) string

	Log *slog.Logger // may be nil
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
	TTY     bool     // give the command a terminal, as a shell has anyway
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

func (h Host) log() *slog.Logger {
	if h.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return h.Log
}

// command is how the user calls a verb.
func (h Host) command(verb ...string) string {
	if h.Command == nil {
		return "rockpool " + strings.Join(verb, " ")
	}
	return h.Command(verb...)
}

// restart is how the user restarts an instance's machine.
func (h Host) restart() string {
	return h.command("vm", "stop") + ", then " + h.command("vm", "start")
}

// load reads the instance in dir, for a verb that needs one.
func (h Host) load(dir string) (Instance, error) {
	inst, err := loadInstance(dir)
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w: start it with `%s`", err, h.command("up"))
	}
	return inst, err
}

// dir is the directory of an instance, whose name is checked because it is
// also removed.
func (h Host) dir(name string) (string, error) {
	if !nameForm.MatchString(name) {
		return "", fmt.Errorf("instance name %q: use lower-case letters, digits and dashes, at most 50", name)
	}
	return filepath.Join(h.Dir, name), nil
}

// List names the instances that exist, sorted.
func (h Host) List() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(h.Dir, "*", configFile))
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(filepath.Dir(f)))
	}
	slices.Sort(names)
	return names, nil
}

// Start switches the instance on and returns once its machine runs; use
// [Host.WaitReady] to wait for the guest. cfg replaces the configuration of an
// earlier start. When the instance runs already its state is returned with
// [ErrAlreadyRunning]; a machine whose guest crashed is switched off and on
// again. progress may be nil.
func (h Host) Start(ctx context.Context, cfg Config, progress func(Progress)) (State, error) {
	if h.Driver == nil {
		return State{}, errors.New("start: no driver given")
	}
	can := h.Driver.Capabilities()
	cfg.choose(can)
	cfg.FillDefaults()
	if err := cfg.Validate(can); err != nil {
		return State{}, err
	}

	dir, err := h.dir(cfg.Name)
	if err != nil {
		return State{}, err
	}
	lock, err := lockOperation(ctx, dir)
	if err != nil {
		return State{}, err
	}
	defer lock.Unlock()

	note := notifier(progress)
	state, err := h.current(ctx, dir)
	if err != nil {
		return state, err
	}
	if state.On() {
		if !state.crashed() {
			return state, ErrAlreadyRunning
		}
		note("", "the machine is on but its guest crashed: switching it off first")
		if _, err := h.stop(ctx, dir, state, StopOptions{Force: true}, nil); err != nil {
			return state, err
		}
	}

	inst := Instance{Dir: dir, Config: cfg}
	if err := h.prepare(ctx, inst, note); err != nil {
		return State{}, err
	}
	if err := h.supervise(ctx, dir, "launch"); err != nil {
		return State{}, err
	}
	return readState(dir)
}

// notifier turns a progress callback into one for notes that may be nil.
func notifier(progress func(Progress)) func(phase guest.Phase, note string) {
	start := time.Now()
	return func(phase guest.Phase, note string) {
		if progress != nil {
			progress(Progress{Phase: phase, Note: note, Elapsed: time.Since(start)})
		}
	}
}

// current reads the state and makes it true: a dead machine is not on, and a
// living one has a supervisor.
func (h Host) current(ctx context.Context, dir string) (State, error) {
	state, err := readState(dir)
	if err != nil {
		return state, err
	}
	if !state.On() {
		return h.correctEnded(dir, state)
	}
	if state.Supervisor.Alive() {
		return state, nil
	}
	h.log().Info("adopting", "instance", state.Name, "pid", state.Processes[0].PID)
	if err := h.supervise(ctx, dir, "attach"); err != nil {
		state.Troubles = append(state.Troubles, Trouble{"supervisor", time.Now(),
			"the machine runs but cannot be attached to: " + err.Error(), h.restart()})
		return state, nil
	}
	return readState(dir)
}

// correctEnded corrects the state of a machine that ended while nobody watched, and
// ends what it left behind. The state of a watched one is not final.
func (h Host) correctEnded(dir string, state State) (State, error) {
	watched := state.Supervisor.Alive() // it is about to say so itself, or is launching
	// It may have said so after state was read, and ended then.
	state, err := readState(dir)
	if err != nil || watched {
		return state, err
	}

	switch {
	case state.Status == Starting || state.Status == Ready:
		state.Status, state.StoppedAt = Failed, time.Now()
		message := "the machine ended without being asked to, and its supervisor too"
		if len(state.Processes) > 0 && state.Processes[0].BootID != BootID() {
			message = "the host was restarted while the machine was on"
		}
		state.Failure = &Failure{Time: time.Now(), Message: message, Log: lastLines(filepath.Join(dir, SerialLog), 15)}
	case state.Status == Stopping:
		state.Status, state.StoppedAt = Stopped, time.Now()
	case len(state.Processes) == 0:
		return state, nil
	}

	for _, p := range state.Processes {
		p.Signal(syscall.SIGKILL) // virtiofsd ends by itself with the machine
	}
	state.Processes, state.Troubles, state.Supervisor = nil, nil, Process{}
	if _, err := os.Stat(dir); err != nil {
		return state, nil
	}
	return state, writeState(dir, state)
}

// Status tells what is known of the instance. When its supervisor died and the
// machine did not, another supervisor is started first.
func (h Host) Status(ctx context.Context, name string) (State, error) {
	dir, err := h.dir(name)
	if err != nil {
		return State{}, err
	}
	if _, err := h.load(dir); err != nil {
		return State{Name: name, Status: Stopped}, err
	}
	lock, err := tryLock(dir, operationLock)
	if errors.Is(err, errLocked) { // somebody else is starting or stopping it
		return readState(dir)
	}
	if err != nil {
		return State{}, err
	}
	defer lock.Unlock()
	return h.current(ctx, dir)
}
