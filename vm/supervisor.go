package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/rockpool/rootvm/guest"
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
// another supervisor holds the instance.
func Supervise(ctx context.Context, dir string, o SuperviseOptions) error {
	// A caller that was interrupted reads no answer, and a broken pipe on stdout
	// would end this process. The signal is caught and not ignored because the
	// machine's processes would inherit that.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)
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
	return s.run(ctx)
}

// supervisor owns the State of one machine. Only run's goroutine touches it.
type supervisor struct {
	inst        Instance
	machine     Machine
	state       State
	log         *slog.Logger
	unlock      func() error
	listener    *net.UnixListener
	requests    chan demand
	subscribers []subscriber
	guest       *channel
	guestSpoke  bool
	asked       chan struct{} // closed when the guest says that it heard the request to stop
	stopped     chan struct{} // closed when the guest says that it has stopped
	exited      chan struct{} // closed when the machine is off
	stopping    bool
	rung        chan string // what the ladder does
	told        chan Event  // events of the supervisor's own
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
		requests: make(chan demand), asked: make(chan struct{}), stopped: make(chan struct{}), exited: make(chan struct{}), rung: make(chan string, 8), told: make(chan Event),
	}
	if s.listener, err = ListenUnix(dir, ControlSocket); err == nil { // before anybody is told that the machine runs
		err = s.takeOver(ctx, o)
	}
	if err != nil {
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
		s.log.Info("attaching", "pid", s.state.Processes[0].PID)
		s.machine, err = driver.Attach(ctx, s.inst, plan, s.state)
	case o.Launch:
		s.log.Info("launching", "instance", s.inst.Config.Name)
		s.state = newState(s.inst.Config, driver.Name(), plan)
		s.state.Supervisor = self
		s.machine, err = driver.Launch(ctx, s.inst, plan, s.record)
		if err != nil {
			s.fail("", err.Error())
			s.state.Processes = nil
			writeState(s.inst.Dir, s.state)
		}
	default:
		err = ErrNotRunning
	}
	if err != nil {
		return err
	}
	s.state.Supervisor = self
	s.state.Processes = s.machine.Processes()
	return writeState(s.inst.Dir, s.state)
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

// run is the supervisor's life: every change of the state happens here.
func (s *supervisor) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer s.listener.Close()
	go s.control(ctx, s.listener)
	s.guest = &channel{machine: s.machine, events: make(chan guest.Message), send: make(chan guest.Request), retry: time.Second}
	go s.guest.run(ctx)
	crashes := s.watchSerial(ctx)
	if s.state.Status == Stopping { // the former supervisor died half way down the ladder
		s.stop(ctx, request{})
	}
	for {
		select {
		case d := <-s.requests:
			s.demand(ctx, d)
		case e := <-s.guest.events:
			s.heard(e)
		case line := <-crashes:
			s.panicked(line)
		case rung := <-s.rung:
			s.state.LastStop = rung
		case e := <-s.told:
			s.happened(ctx, e)
		case e, ok := <-s.machine.Events():
			if !ok || e.Kind == Exited {
				s.off(e)
				return nil
			}
			s.happened(ctx, e)
		}
		s.publish()
	}
}

// publish writes the state and sends it to every subscriber.
func (s *supervisor) publish() {
	s.state.Processes = s.machine.Processes()
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

func (s *supervisor) demand(ctx context.Context, d demand) {
	s.subscribers = append(s.subscribers, d.states)
	if d.Request == "stop" {
		s.stop(ctx, d.request)
	}
}

// heard takes in a line of the guest.
func (s *supervisor) heard(e guest.Message) {
	s.guestSpoke = true
	switch e.Event {
	case guest.EventPhase:
		if s.state.phase(e.Phase, seconds(e)) {
			s.log.Info("phase", "phase", e.Phase, "seconds", seconds(e))
		}
	case guest.EventReady:
		s.ready(e)
	case guest.EventFailed:
		s.log.Error("guest failed", "unit", e.Unit, "message", e.Message)
		s.fail(e.Unit, cleanLine(e.Message))
	case guest.EventStopping:
		closeOnce(s.asked)
	case guest.EventStopped:
		closeOnce(s.asked)
		closeOnce(s.stopped)
	}
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
	case <-s.asked:
	case <-s.exited:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// closeOnce closes a channel that only this goroutine closes.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

func (s *supervisor) ready(e guest.Message) {
	if s.stopping {
		return
	}
	if s.state.ReadyAfter == 0 {
		s.state.ReadyAfter = round(max(seconds(e), min(time.Since(s.state.StartedAt).Seconds(), seconds(e)+30)))
		s.log.Info("ready", "seconds", s.state.ReadyAfter)
	}
	s.state.AgentVersion = cleanLine(e.Version)
	s.state.Status, s.state.Failure = Ready, nil
}

// seconds is the time that a message tells, since the guest's kernel started.
func seconds(m guest.Message) float64 {
	if m.Seconds == nil {
		return 0
	}
	return *m.Seconds
}

func round(seconds float64) float64 { return math.Round(seconds*100) / 100 }

// fail records why the instance does not work.
func (s *supervisor) fail(unit, message string) {
	s.state.Status = Failed
	s.state.Failure = &Failure{Time: time.Now(), Unit: unit, Message: message, Log: lastLines(s.inst.Path(SerialLog), 15)}
}

// panicked records the end of the guest's kernel. A panic is final; after an
// Oops the guest may still come up, and then says so.
func (s *supervisor) panicked(line string) {
	s.log.Error("guest kernel", "line", line)
	s.fail("", "the guest's kernel crashed: "+line)
}

// happened takes in an event of the machine, which is still on.
func (s *supervisor) happened(ctx context.Context, e Event) {
	s.log.Info("machine", "event", e.Kind, "part", e.Part, "message", e.Message)
	s.state.Troubles = slices.DeleteFunc(s.state.Troubles, func(t Trouble) bool { return t.Part == e.Part })
	switch e.Kind {
	case Panicked:
		s.fail("", "the guest's kernel crashed: "+e.Message)
	case Degraded:
		s.state.Troubles = append(s.state.Troubles, Trouble{e.Part, time.Now(), e.Message, e.Cure})
	case Recovered:
		if e.Part == "share" {
			go s.remount(ctx)
		}
	case Rebooted:
		if s.stopping {
			return
		}
		s.state.Status, s.state.Phases, s.state.ReadyAfter, s.state.Failure = Starting, nil, 0, nil
		s.state.StartedAt = time.Now()
	}
}

// remountLine mounts the share afresh in the guest, whose old mount has lost
// its device.
const remountLine = "sudo umount -l " + guest.ShareDir + "; sudo systemctl restart " + guest.ShareUnit

// remount has the guest mount the share again after its device was replaced.
// It goes by SSH because the agent may not mount.
func (s *supervisor) remount(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ssh", SSHArgs(s.inst, []string{remountLine})...).CombinedOutput()
	if err != nil {
		s.log.Error("the guest did not mount the share again", "err", err, "output", string(out))
		s.tell(ctx, Event{Kind: Degraded, Part: "share", Message: "the share was replaced, but the guest did not mount it again",
			Cure: "in the guest: " + remountLine})
	}
}

// tell makes an event of the supervisor's own.
func (s *supervisor) tell(ctx context.Context, e Event) {
	select {
	case s.told <- e:
	case <-ctx.Done():
	}
}

// off records the end of the machine and says goodbye.
func (s *supervisor) off(e Event) {
	close(s.exited)
	for len(s.rung) > 0 { // the last of what was not heard of yet
		s.state.LastStop = <-s.rung
	}
	s.state.StoppedAt = time.Now()
	switch {
	case s.stopping:
		s.state.Status, s.state.Failure = Stopped, nil
	case e.Message == "":
		s.state.Status, s.state.LastStop = Stopped, "the guest switched itself off"
	default:
		s.fail("", e.Message)
	}
	s.state.Troubles = nil
	s.log.Info("off", "how", s.state.LastStop, "message", e.Message)
	s.state.Supervisor = Process{}
	s.publish()
	for _, c := range s.subscribers {
		close(c)
	}
}

// watchSerial looks for a crash of the guest's kernel in what it writes from
// now on, and gives it a second to finish its last words.
func (s *supervisor) watchSerial(ctx context.Context) <-chan string {
	crashes := make(chan string)
	var watch crashWatch
	go tail(ctx, s.inst.Path(SerialLog), 0, func(b []byte) {
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

// troubledStopTimeout is the patience with a guest that may hang.
const troubledStopTimeout = 20 * time.Second

// silentStopTimeout is the patience with a guest that has never spoken.
const silentStopTimeout = 40 * time.Second

// stop starts the ladder, once.
func (s *supervisor) stop(ctx context.Context, r request) {
	if s.stopping {
		return
	}
	s.stopping = true
	crashed := s.state.Status == Failed && s.state.Failure != nil && s.state.Failure.Unit == ""
	s.state.Status = Stopping
	total := DefaultStopTimeout
	if r.Timeout > 0 {
		total = time.Duration(r.Timeout * float64(time.Second))
	}
	if len(s.state.Troubles) > 0 { // a guest that waits for its share or disk cannot shut down
		total = min(total, troubledStopTimeout)
	}
	l := ladder{machine: s.machine, exited: s.exited, stopped: s.stopped, rung: s.rung, log: s.log, total: total}
	if s.guestSpoke && !r.Force && !crashed {
		l.ask = s.askGuest
	}
	l.skipPowerDown = r.Force || crashed
	if !s.guestSpoke { // early in its boot a guest does not feel the button
		l.total = min(l.total, silentStopTimeout)
	}
	go l.climb(ctx)
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
