package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rockpool/rootvm/vm/watch"
)

// SuperviseOptions are the supervisor's dependencies.
type SuperviseOptions struct {
	Drivers Drivers
	Launch  bool      // launch what Start prepared when the machine is off
	Ready   io.Writer // gets one line of JSON, {} or {"error":"…"}, when the machine runs or does not
	Log     *slog.Logger
}

// Supervise watches the machine of the instance in dir until it is off. It
// attaches to a machine that runs, or launches it. It fails at once when
// another supervisor holds the instance. When ctx ends it leaves the machine to
// the next supervisor.
func Supervise(ctx context.Context, dir string, o SuperviseOptions) error {
	// A caller that was interrupted reads no answer, and a broken pipe on stdout
	// would end this process. The signal is caught and not ignored because the
	// machine's processes would inherit that.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)

	// The end of a session and the host's shutdown reach this process as signals.
	// They go down the same ladder as a stop that was asked for.
	ending := make(chan os.Signal, 1)
	signal.Notify(ending, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(ending)

	s, err := newSupervisor(ctx, dir, o)
	answer := struct {
		Error string `json:"error,omitempty"`
	}{}
	if err != nil {
		answer.Error = err.Error()
	}
	json.NewEncoder(o.Ready).Encode(answer) // nobody may be listening any more
	if err != nil {
		return err
	}
	defer s.unlock()
	s.ending = ending
	return s.run(ctx)
}

// supervisor owns the State of one machine. Only run's goroutine touches it.
type supervisor struct {
	inst          Instance
	machine       Machine
	state         State
	log           *slog.Logger
	unlock        func() error
	listener      *net.UnixListener
	requests      chan subscription
	subscribers   []subscriber
	guest         *channel
	guestSpoke    bool
	shutdownHeard chan struct{} // closed when the guest says that it heard the request to stop
	stopped       chan struct{} // closed when the guest says that it has stopped
	exited        chan struct{} // closed when the machine is off
	stopping      bool
	forced        bool               // the guest is not asked any more
	crashed       bool               // the guest was past help when the stop began
	stopBy        time.Time          // when the ladder that is climbed should be over
	cancelLadder  context.CancelFunc // of that ladder
	rungs         chan string        // what the ladder does
	ownEvents     chan Event         // events of the supervisor's own
	forwards      *forwarder         // nil when the machine forwards its ports by itself
	ecosystem     *forwarder         // to the guest's loopback; nil without ports
	tunnel        *tunnel            // of ecosystem
	serialRead    atomic.Int64       // how far the serial log was read
	files         *watch.Watcher     // of the shared directory; nil without one
	ending        <-chan os.Signal   // nil when this process has another purpose
}

func newSupervisor(ctx context.Context, dir string, o SuperviseOptions) (*supervisor, error) {
	inst, err := loadInstance(dir)
	if err != nil {
		return nil, err
	}
	lock, err := lockSupervisor(ctx, dir, o.Launch)
	if err != nil {
		return nil, fmt.Errorf("supervise: %w", err)
	}

	s := &supervisor{
		inst: inst, log: o.Log, unlock: lock.Unlock,
		requests:      make(chan subscription),
		shutdownHeard: make(chan struct{}),
		stopped:       make(chan struct{}),
		exited:        make(chan struct{}),
		rungs:         make(chan string, 8),
		ownEvents:     make(chan Event),
	}
	s.listener, err = ListenUnix(dir, ControlSocket) // before anybody is told that the machine runs
	if err != nil {
		lock.Unlock()
		return nil, err
	}
	if err := s.takeOver(ctx, o); err != nil {
		s.listener.Close()
		lock.Unlock()
		return nil, err
	}
	return s, nil
}

// takeOver attaches to the machine or launches it.
func (s *supervisor) takeOver(ctx context.Context, o SuperviseOptions) error {
	plan, driver, err := loadPlan(s.inst, o.Drivers)
	if err != nil {
		return err
	}
	if s.state, err = readState(s.inst.Dir); err != nil {
		return err
	}
	self, err := Identify("supervisor", os.Getpid())
	if err != nil {
		return err
	}

	switch {
	case s.state.On():
		err = s.attach(ctx, driver, plan)
	case o.Launch:
		s.state = newState(s.inst.Config, driver.Name(), plan)
		s.state.Supervisor = self
		err = s.launch(ctx, driver, plan)
	default:
		err = ErrNotRunning
	}
	if err != nil {
		s.closeForwards()
		s.closeEcosystem()
		return err
	}

	s.state.Supervisor = self
	s.state.Processes = s.machine.Processes()
	return writeState(s.inst.Dir, s.state)
}

// launch switches the machine on. Ports that the supervisor forwards are taken
// before, so that a busy one costs no boot.
func (s *supervisor) launch(ctx context.Context, driver Driver, plan Plan) error {
	s.log.Info("launching", "instance", s.inst.Config.Name)
	s.state.Launching = true
	defer func() { s.state.Launching = false }()
	err := s.listen(driver)
	if err == nil {
		s.machine, err = driver.Launch(ctx, s.inst, plan, s.record)
	}
	if err == nil && s.forwards != nil {
		if _, ok := s.machine.(Dialer); !ok {
			err = errors.Join(errNoDialer(driver), s.machine.Stop(ctx, Kill))
		}
	}
	if err != nil {
		s.fail("", err.Error())
		s.state.Processes, s.state.Launching = nil, false
		writeState(s.inst.Dir, s.state)
	}
	return err
}

// attach takes over the machine of a dead supervisor. A port that somebody else
// took meanwhile is a trouble, not a reason to leave the machine alone.
func (s *supervisor) attach(ctx context.Context, driver Driver, plan Plan) error {
	s.log.Info("attaching", "pid", s.state.Processes[0].PID)
	var err error
	if s.machine, err = driver.Attach(ctx, s.inst, plan, s.state); err != nil {
		return err
	}
	// What the guest said to the supervisor before stands in the state. A stop
	// that comes before the guest answers this one still asks it.
	s.guestSpoke = len(s.state.Phases) > 0 || s.state.Status == Ready
	s.state.Troubles = slices.DeleteFunc(s.state.Troubles, func(t Trouble) bool { return t.Part == portsPart || t.Part == ecosystemPart })
	if err := s.listen(driver); err != nil {
		message := strings.ReplaceAll(err.Error(), "\n", "; ")
		s.state.Troubles = append(s.state.Troubles, Trouble{portsPart, time.Now(), message, "once it is free, restart the VM: " + plan.RestartCure()})
	}
	if _, ok := s.machine.(Dialer); s.forwards != nil && !ok {
		return errNoDialer(driver)
	}
	s.resumeEcosystem(ctx)
	return nil
}

// portsPart names the forwarded ports in a [Trouble].
const portsPart = "ports"

func errNoDialer(driver Driver) error {
	return fmt.Errorf("driver %s neither forwards ports nor lets the supervisor do it", driver.Name())
}

// listen takes the ports that the driver leaves to the supervisor.
func (s *supervisor) listen(driver Driver) error {
	if driver.Capabilities().Forwards {
		return nil
	}
	var err error
	s.forwards, err = listenForwards(s.inst.Config.Ports.Forwards(), s.log)
	return err
}

func (s *supervisor) closeForwards() {
	if s.forwards != nil {
		s.forwards.close()
	}
}

// record notes a process as soon as it runs, so that a supervisor that is
// killed during a launch leaves nothing unknown behind.
func (s *supervisor) record(p Process) {
	s.state.Processes = append([]Process{p}, s.state.Processes...)
	if err := writeState(s.inst.Dir, s.state); err != nil {
		s.log.Error("state not written", "err", err)
	}
}

func newState(c Config, driver string, plan Plan) State {
	return State{
		Name: c.Name, Status: Starting, Driver: driver, StartedAt: time.Now(),
		Accel: plan.Accel, Share: plan.Share, Boot: plan.Boot,
		Memory: c.Memory, CPUs: c.CPUs, Ports: c.Ports, ImageSHA256: c.Image.SHA256,
	}
}

// run is the supervisor's life: every change of the state happens here. It
// returns when the machine is off, or with ctx's error when that ends.
func (s *supervisor) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer s.listener.Close()
	defer s.closeForwards()
	defer s.closeEcosystem()
	defer func() {
		for _, c := range s.subscribers {
			close(c)
		}
	}()

	go s.control(ctx, s.listener)
	s.guest = newChannel(s.machine)
	s.watchFiles(ctx)
	go s.guest.run(ctx)
	count := time.NewTicker(filesInterval)
	defer count.Stop()
	look := time.NewTicker(networksInterval)
	defer look.Stop()
	go s.guest.watchNetworks(ctx, hostNetworks, look.C)
	tick := time.NewTicker(clockInterval)
	defer tick.Stop()
	go s.guest.watchClock(ctx, hostClock(), tick.C)
	if s.forwards != nil {
		s.forwards.serve(ctx, s.machine.(Dialer)) // as takeOver made sure
	}
	crashes := s.watchSerial(ctx)
	if s.state.Status == Stopping { // the former supervisor died half way down the ladder
		s.stop(ctx, request{Timeout: s.state.StopTimeout})
	}

	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case sig := <-s.ending:
			s.log.Info("stopping the machine on a signal", "signal", sig)
			s.stop(ctx, request{})
		case d := <-s.requests:
			s.subscribe(ctx, d)
		case e := <-s.guest.events:
			s.takeMessage(e)
		case <-count.C:
			if !s.countFiles() {
				continue
			}
		case line := <-crashes:
			s.recordCrash(line)
		case rung := <-s.rungs:
			s.state.LastStop = rung
		case e := <-s.ownEvents:
			s.takeEvent(ctx, e)
		case e, ok := <-s.machine.Events():
			if !ok || e.Kind == Exited {
				s.recordEnd(e)
				return nil
			}
			s.takeEvent(ctx, e)
		}
		s.publish()
	}
}

// publish writes the state and sends it to every subscriber.
func (s *supervisor) publish() {
	s.state.Processes = s.machine.Processes()
	s.state.SerialRead = s.serialRead.Load()
	if err := writeState(s.inst.Dir, s.state); err != nil {
		s.log.Error("state not written", "err", err)
	}
	copied := s.state
	copied.Phases, copied.Troubles = slices.Clone(s.state.Phases), slices.Clone(s.state.Troubles)
	s.subscribers = slices.DeleteFunc(s.subscribers, func(c subscriber) bool {
		select {
		case c <- copied:
			return false
		default:
			close(c)
			return true
		}
	})
}

func (s *supervisor) subscribe(ctx context.Context, d subscription) {
	if d.Request == "forward" {
		if err := s.forwardEcosystem(ctx, d.Ports); err != nil {
			d.refused <- err
			return
		}
	}
	close(d.refused)
	s.subscribers = append(s.subscribers, d.states)
	if d.Request == "stop" {
		s.stop(ctx, d.request)
	}
}

// closeOnce closes a channel that only this goroutine closes.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// watchSerial looks for a crash of the guest's kernel in what it writes from
// where the supervisor before has read to, and gives it a second to finish its
// last words.
func (s *supervisor) watchSerial(ctx context.Context) <-chan string {
	crashes := make(chan string)
	s.serialRead.Store(s.state.SerialRead)
	log := serialLog{path: s.inst.Path(SerialLog), limit: maxSerialLog, offset: &s.serialRead}
	var watch crashWatch
	go log.follow(ctx, func(b []byte) {
		line := watch.feed(b)
		if line == "" {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		select {
		case crashes <- line:
		case <-ctx.Done():
		}
	})
	return crashes
}

// loadPlan reads what Start prepared.
func loadPlan(inst Instance, drivers Drivers) (Plan, Driver, error) {
	var plan Plan
	if err := readJSON(inst.Path(planFile), &plan); err != nil {
		return plan, nil, err
	}
	driver, err := drivers.saved(inst)
	return plan, driver, err
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
