package tart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

// Names of the processes, and files of theirs in the instance's directory.
const (
	tartName   = "tart"
	serialName = "serial" // copies the console into the serial log

	tartLog    = "tart.log"
	serialLink = "serial.pty" // leads to the console's pseudo-terminal
)

// launchLimit is how long Tart may take to open its control socket. One that
// cannot run the VM says so within a second or two.
const launchLimit = 15 * time.Second

// controlPart names the control socket in a [vm.Trouble].
const controlPart = "control"

// machine is a running VM of Tart's.
type machine struct {
	driver *Driver
	inst   vm.Instance
	name   string
	events chan vm.Event
	said   chan vm.Event // of Launch, passed on by watch

	mu     sync.Mutex // guards what follows
	tart   vm.Process
	serial vm.Process
	asked  bool       // to end
	exit   chan error // of Tart, when it is this process's child
	nat    natAddress
}

var (
	_ vm.Machine = (*machine)(nil)
	_ vm.Dialer  = (*machine)(nil)
)

func newMachine(d *Driver, inst vm.Instance) *machine {
	return &machine{driver: d, inst: inst, name: d.name(inst), events: make(chan vm.Event, 16), said: make(chan vm.Event, 4)}
}

// dir is the VM's directory.
func (m *machine) dir() string { return m.driver.Program.dir(m.name) }

// launch starts the processes and waits until Tart runs the VM.
func (m *machine) launch(ctx context.Context, plan vm.Plan, started func(vm.Process)) error {
	m.clearSocket()
	if err := m.startProcesses(plan, started); err != nil {
		return err
	}
	if err := m.awaitControl(ctx); err != nil {
		return err
	}
	m.driver.watchMAC(m.inst, func(s string) { m.say(vm.Event{Kind: vm.Note, Message: s}) })
	return nil
}

// clearSocket removes the control socket of a run that was cut off, which leads
// nowhere (openai/tart#1220). Prepare made sure that the VM does not run.
func (m *machine) clearSocket() {
	path := filepath.Join(m.dir(), controlName)
	if _, err := os.Lstat(path); err != nil {
		return
	}
	message := "a stale " + controlName + " of a run that was cut off was removed"
	if err := os.Remove(path); err != nil {
		message = fmt.Sprintf("a stale %s of a run that was cut off stays: %v", controlName, err)
	}
	m.say(vm.Event{Kind: vm.Note, Message: message})
}

// say has watch pass on an event; what nobody can take is dropped.
func (m *machine) say(e vm.Event) {
	e.Time = time.Now()
	select {
	case m.said <- e:
	default:
	}
}

// startProcesses starts what copies the console, and then Tart, both so that
// they outlive the supervisor. Tart inherits the terminal, which so is open as
// long as Tart lives, and no longer: the copying ends with it.
func (m *machine) startProcesses(plan vm.Plan, started func(vm.Process)) error {
	console, err := openConsole(m.inst.Path(serialLink))
	if err != nil {
		return err
	}
	defer console.close()
	out, err := os.OpenFile(m.inst.Path(vm.SerialLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("serial log: %w", err)
	}
	defer out.Close()
	log, err := os.OpenFile(m.inst.Path(tartLog), os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start Tart: %w", err)
	}
	defer log.Close()

	for _, c := range plan.Processes {
		cmd := exec.Command(c.Argv[0], c.Argv[1:]...) // not bound to a context
		cmd.Dir = m.inst.Dir
		cmd.Env = append(m.driver.Program.environment(), c.Env...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.ExtraFiles = []*os.File{console.terminal}
		if c.Name == serialName {
			cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = console.master, out, nil, nil
		}
		if err := m.start(c.Name, cmd, started); err != nil {
			return fmt.Errorf("start %s: %w", c.Name, err)
		}
	}
	return nil
}

func (m *machine) start(name string, cmd *exec.Cmd, started func(vm.Process)) error {
	if err := vm.StartShielded(cmd); err != nil {
		return err
	}
	p, err := vm.Identify(name, cmd.Process.Pid)
	exit := make(chan error, 1)
	go func() { exit <- cmd.Wait() }()
	m.mu.Lock()
	if name == tartName {
		m.tart, m.exit = p, exit
	} else {
		m.serial = p
	}
	m.mu.Unlock()
	if err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	started(p)
	return nil
}

// awaitControl waits until Tart listens at its control socket. A Tart that does
// not, on macOS 13, runs all the same.
func (m *machine) awaitControl(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, launchLimit)
	defer cancel()
	ended := m.tart.Done()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := vm.DialUnix(limited, m.dir(), controlName); err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			return fmt.Errorf("Tart did not run the VM: %s", m.lastWords())
		case <-tick.C:
		case <-limited.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			m.say(vm.Event{Kind: vm.Degraded, Part: controlPart,
				Message: "Tart opened no " + controlName + ": ports go over its NAT, and the VM's readiness is seen by its health",
				Cure:    "update to macOS 14 and Tart 2.35, or give a shorter TART_HOME"})
			return nil
		}
	}
}

// lastWords is what Tart said last.
func (m *machine) lastWords() string {
	b, err := os.ReadFile(m.inst.Path(tartLog))
	if err != nil {
		return err.Error()
	}
	if line := lastLine(b); line != "" {
		return line
	}
	return "it said nothing; it needs an unlocked login keychain (openai/tart#1132): log in at the Mac once, or unlock it with `security unlock-keychain`"
}

// Processes implements [vm.Machine].
func (m *machine) Processes() []vm.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.tart.Alive() {
		return nil
	}
	running := []vm.Process{m.tart}
	if m.serial.Alive() {
		running = append(running, m.serial)
	}
	return running
}

// Events implements [vm.Machine].
func (m *machine) Events() <-chan vm.Event { return m.events }

// Channel implements [vm.Machine].
func (m *machine) Channel(ctx context.Context) (io.ReadWriteCloser, error) {
	conn, err := m.stream(ctx, guest.Stream{})
	if errors.Is(err, os.ErrNotExist) {
		return newHealthChannel(m), nil
	}
	return conn, err
}

// stream opens a stream over the control socket.
func (m *machine) stream(ctx context.Context, s guest.Stream) (net.Conn, error) {
	conn, err := vm.DialUnix(ctx, m.dir(), controlName)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, guest.StreamTime)
	defer cancel()
	return guest.OpenStream(limited, conn, s)
}

// Dial implements [vm.Dialer]: over the control socket, and over the NAT when
// nobody answers there.
func (m *machine) Dial(ctx context.Context, port int) (net.Conn, error) {
	half, cancel := context.WithTimeout(ctx, dialTime)
	conn, err := m.stream(half, guest.Stream{Port: port})
	cancel()
	if err == nil || guest.StreamRefused(err) {
		return conn, err
	}
	onNAT, natErr := m.dialNAT(ctx, port)
	if natErr != nil {
		return nil, errors.Join(err, natErr)
	}
	return onNAT, nil
}

// dialTime leaves some of a dial's time to the NAT.
const dialTime = 5 * time.Second

// Stop implements [vm.Machine]. The power button is SIGUSR2; SIGINT is what
// `tart stop` sends, and it cuts the power.
func (m *machine) Stop(_ context.Context, how vm.StopMethod) error {
	m.mu.Lock()
	m.asked = true
	p := m.tart
	m.mu.Unlock()
	switch how {
	case vm.PowerDown:
		return p.Signal(syscall.SIGUSR2)
	case vm.Quit:
		return p.Signal(syscall.SIGINT)
	}
	return m.killAll()
}

func (m *machine) killAll() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var faults []error
	for _, p := range []vm.Process{m.tart, m.serial} {
		if p.PID > 0 {
			faults = append(faults, p.Signal(syscall.SIGKILL))
		}
	}
	return errors.Join(faults...)
}

// watch turns what happens to the processes into events, until Tart is gone. It
// is the only sender on m.events.
func (m *machine) watch() {
	defer close(m.events)
	tartEnd := m.tart.Done()
	var serialEnd <-chan struct{}
	if m.serial.PID > 0 {
		serialEnd = m.serial.Done()
	}
	for {
		select {
		case e := <-m.said:
			m.events <- e
		case <-serialEnd:
			serialEnd = nil
			select {
			case <-tartEnd: // it ends by itself when Tart does
			case <-time.After(time.Second):
				m.events <- vm.Event{Kind: vm.Degraded, Time: time.Now(), Part: "console",
					Message: "what copies the VM's console into the serial log has ended", Cure: "restart the VM"}
			}
		case <-tartEnd:
			m.cleanUp()
			return
		}
	}
}

// cleanUp cleans up after Tart and sends the last event.
func (m *machine) cleanUp() {
	m.drainConsole()
	m.killAll()
	for _, path := range []string{m.inst.Path(serialLink), filepath.Join(m.dir(), controlName)} {
		os.Remove(path)
	}
	e := vm.Event{Kind: vm.Exited, Time: time.Now()}
	if !m.endedWell() {
		e.Message = "Tart ended unexpectedly: " + m.lastWords()
	}
	m.events <- e
}

// drainConsole gives the last of the console a moment to get into the log.
func (m *machine) drainConsole() {
	select {
	case <-m.serial.Done():
	case <-time.After(time.Second):
	}
}

// powerDown is the kernel's last word before it switches the machine off.
const powerDown = "reboot: Power down"

// endedWell reports whether Tart ended because it was asked to, or because the
// guest switched itself off. Of a Tart that another process started, only the
// guest's last words tell.
func (m *machine) endedWell() bool {
	m.mu.Lock()
	asked, exit := m.asked, m.exit
	m.mu.Unlock()
	if asked {
		return true
	}
	if exit != nil {
		select {
		case err := <-exit:
			return err == nil
		case <-time.After(time.Second):
			return false
		}
	}

	f, err := os.Open(m.inst.Path(vm.SerialLog))
	if err != nil {
		return false
	}
	defer f.Close()
	const last = 4 << 10
	if info, err := f.Stat(); err == nil && info.Size() > last {
		f.Seek(-last, io.SeekEnd)
	}
	b, _ := io.ReadAll(io.LimitReader(f, last))
	return strings.Contains(string(b), powerDown)
}
