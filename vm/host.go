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
	cfg.fillFrom(can)
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
	say := sayer(progress)
	state, err := h.current(ctx, dir)
	if err != nil {
		return state, err
	}
	if state.On() {
		if state.Status != Failed || state.Failure == nil || state.Failure.Unit != "" {
			return state, ErrAlreadyRunning
		}
		say("", "the machine is on but its guest crashed: switching it off first")
		if _, err := h.stop(ctx, dir, state, StopOptions{Force: true}, nil); err != nil {
			return state, err
		}
	}
	inst := Instance{Dir: dir, Config: cfg}
	if err := h.prepare(ctx, inst, say); err != nil {
		return State{}, err
	}
	if err := h.supervise(ctx, dir, "launch"); err != nil {
		return State{}, err
	}
	return readState(dir)
}

// sayer turns a progress callback into one for notes that may be nil.
func sayer(progress func(Progress)) func(phase guest.Phase, note string) {
	start := time.Now()
	return func(phase guest.Phase, note string) {
		if progress != nil {
			progress(Progress{Phase: phase, Note: note, Elapsed: time.Since(start)})
		}
	}
}

// prepare does everything that must be there before the machine is launched.
func (h Host) prepare(ctx context.Context, inst Instance, say func(phase guest.Phase, note string)) error {
	if name := savedDriverName(inst); name != "" && name != h.Driver.Name() {
		return fmt.Errorf("%s was made by the driver %s, not by %s, and its disks are of no use to another: start it with that one, or destroy it first with `%s`",
			inst.Config.Name, name, h.Driver.Name(), h.command("vm", "destroy"))
	}
	if err := h.clearAway(ctx, inst); err != nil {
		return err
	}
	if err := awaitPorts(ctx, inst.Config.Ports); err != nil {
		return err
	}
	key, err := ensureKey(inst)
	if err != nil {
		return err
	}
	config, err := guestConfig(inst.Config)
	if err != nil {
		return err
	}
	if err := WriteConfigDisk(inst.Path(ConfigDisk), config, key); err != nil {
		return err
	}
	// Known before the driver makes anything, so that Destroy finds it.
	if err := saveDriver(inst, h.Driver); err != nil {
		return err
	}
	plan, err := h.Driver.Prepare(ctx, inst)
	if err != nil {
		return err
	}
	plan.Restart = h.restart()
	if err := h.keepSupervisor(ctx, inst.Dir); err != nil {
		return err
	}
	for _, note := range plan.Notes {
		say("", note)
	}
	if err := os.Rename(inst.Path(SerialLog), inst.Path(SerialLog+".1")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keep the last serial log: %w", err)
	}
	if inst.Config.DataSize == 0 { // host keys live on the data disk: without one they may be new at every start
		os.Remove(inst.Path(knownHostsFile))
	}
	if err := writeJSON(inst.Path(configFile), inst.Config); err != nil {
		return err
	}
	return writeJSON(inst.Path(planFile), plan)
}

// keepSupervisor keeps the caller's program as the instance's supervisor. A
// caller without one goes on with what an earlier start kept.
func (h Host) keepSupervisor(ctx context.Context, dir string) error {
	if h.Supervisor == nil {
		return nil
	}
	argv, err := h.Supervisor(ctx)
	if err != nil {
		return fmt.Errorf("the supervisor's program: %w", err)
	}
	return keepSupervisor(dir, argv)
}

// guestConfig is what the guest is told.
func guestConfig(c Config) (guest.Config, error) {
	g := guest.Config{Version: guest.ConfigVersion, Hostname: c.Hostname, Share: guest.ShareTag, Ports: c.Ports, Credentials: c.Credentials}
	if c.ShareDir == "" {
		return g, nil
	}
	uid, gid, err := Owner(c.ShareDir)
	if err != nil {
		return g, fmt.Errorf("shared directory: %w: give an existing one", err)
	}
	g.UID, g.GID = uint32(uid), uint32(gid)
	return g, nil
}

// Owner returns the user and group that a directory belongs to.
func Owner(dir string) (uid, gid int, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, 0, err
	}
	if !info.IsDir() {
		return 0, 0, fmt.Errorf("%s is not a directory", dir)
	}
	stat := info.Sys().(*syscall.Stat_t)
	return int(stat.Uid), int(stat.Gid), nil
}

// clearAway ends what a supervisor that was killed in the middle of a launch
// left running: processes of the last plan that no state tells of. They are
// known by their working directory and their exact arguments.
func (h Host) clearAway(ctx context.Context, inst Instance) error {
	var plan Plan
	if readJSON(inst.Path(planFile), &plan) != nil {
		return nil // never started
	}
	for _, p := range orphans(inst.Dir, plan) {
		h.log().Warn("ending a left-over process", "name", p.Name, "pid", p.PID)
		if err := end(ctx, p, 3*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// end terminates a process, and kills it after a while.
func end(ctx context.Context, p Process, patience time.Duration) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := p.Signal(sig); err != nil {
			return err
		}
		select {
		case <-p.Done():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(patience):
		}
	}
	return fmt.Errorf("process %s (pid %d) does not end: it may hang on a device or a network file system", p.Name, p.PID)
}

// current reads the state and makes it true: a dead machine is not on, and a
// living one has a supervisor.
func (h Host) current(ctx context.Context, dir string) (State, error) {
	state, err := readState(dir)
	if err != nil {
		return state, err
	}
	if !state.On() {
		return h.buried(dir, state)
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

// buried corrects the state of a machine that ended while nobody watched, and
// ends what it left behind. The state of a watched one is not final.
func (h Host) buried(dir string, state State) (State, error) {
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

// StartReady is [Host.Start] and [Host.WaitReady] in one, also for an instance
// that runs already. An emulator that crashes before its guest has said a word
// is started once more: QEMU without KVM does so once in some hundred boots, by
// a failed assertion of its own (iotlb_to_section).
func (h Host) StartReady(ctx context.Context, cfg Config, timeout time.Duration, progress func(Progress)) (State, error) {
	say := sayer(progress)
	state, err := h.startReady(ctx, cfg, timeout, progress)
	if state.Status == Failed && !state.On() && state.Accel == AccelTCG && state.Failure != nil && len(state.Phases) == 0 {
		say("", state.Failure.Error()+": starting it once more")
		state, err = h.startReady(ctx, cfg, timeout, progress)
	}
	return state, err
}

func (h Host) startReady(ctx context.Context, cfg Config, timeout time.Duration, progress func(Progress)) (State, error) {
	state, err := h.Start(ctx, cfg, progress)
	if errors.Is(err, ErrAlreadyRunning) {
		sayer(progress)("", cfg.Name+" is already running")
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
		err = ask(ctx, dir, request{Request: "watch"}, func(s State) bool {
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

// Destroy stops the instance and removes everything of it, the data disk too.
// What its driver made is removed by that driver, which it remembers; when this
// program does not know it, nothing is removed. The caller has asked.
func (h Host) Destroy(ctx context.Context, name string) error {
	dir, err := h.dir(name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	inst, err := loadInstance(dir)
	if err != nil { // never started, or damaged: what is known is the name
		inst.Config.Name = name
	}
	driver, err := h.known(inst)
	if err != nil && !errors.Is(err, errNoDriver) {
		return fmt.Errorf("destroy %s: nothing was removed: %w", name, err)
	}

	if _, err := h.Stop(ctx, name, StopOptions{Force: true}, nil); err != nil {
		return err
	}
	lock, err := lockOperation(ctx, dir)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := h.clearAway(ctx, inst); err != nil {
		return err
	}

	if driver != nil {
		if err := driver.Destroy(ctx, inst); err != nil {
			return fmt.Errorf("destroy %s: %w", name, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("destroy %s: %w", name, err)
	}
	return nil
}

// known makes the driver that the instance was started with.
func (h Host) known(inst Instance) (Driver, error) {
	return h.Drivers.saved(inst)
}
