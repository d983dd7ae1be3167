package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rockpool/rootvm/vm"
)

// Logs of the processes, in the instance's directory.
const (
	qemuLog      = "qemu.log"
	virtiofsdLog = "virtiofsd.log"
)

// machine is a running QEMU with its virtiofsd.
type machine struct {
	inst   vm.Instance
	plan   vm.Plan
	events chan vm.Event

	mu        sync.Mutex // guards what follows
	qemu      vm.Process
	virtiofsd vm.Process
	qmp       *qmp

	// watch's own:
	shutdown string           // reason of the SHUTDOWN event
	deleted  chan struct{}    // closed when the guest let go of the share
	replaced chan replacement // how a replacement of the share went
	deaths   []time.Time      // of virtiofsd
}

func newMachine(inst vm.Instance, plan vm.Plan) *machine {
	return &machine{inst: inst, plan: plan, events: make(chan vm.Event, 16), replaced: make(chan replacement, 1)}
}

func (m *machine) command(name string) vm.Command {
	for _, c := range m.plan.Processes {
		if c.Name == name {
			return c
		}
	}
	return vm.Command{}
}

// launch starts the processes and waits for QEMU to answer.
func (m *machine) launch(ctx context.Context, started func(vm.Process)) error {
	if m.plan.Share == vm.ShareVirtiofs {
		if err := m.startVirtiofsd(); err != nil {
			return err
		}
		started(m.virtiofsd)
	}
	for _, name := range []string{qmpSocket, channelSocket} {
		os.Remove(m.inst.Path(name))
	}
	var err error
	if m.qemu, err = m.start(m.command("qemu"), qemuLog); err != nil {
		return err
	}
	started(m.qemu)
	m.qmp, err = m.connect(ctx)
	return err
}

// connect waits until QEMU has opened its socket.
func (m *machine) connect(ctx context.Context) (*qmp, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ended := m.qemu.Done()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		q, err := dialQMP(ctx, m.inst.Dir)
		if err == nil {
			return q, nil
		}
		select {
		case <-ended:
			return nil, fmt.Errorf("QEMU did not start: %s", firstFault(m.inst))
		case <-ctx.Done():
			return nil, fmt.Errorf("QEMU does not answer: %w", err)
		case <-tick.C:
		}
	}
}

// firstFault finds the words of whoever ended first.
func firstFault(inst vm.Instance) string {
	if line := qemuFault(tailOf(inst.Path(qemuLog))); line != "" {
		return line
	}
	if log := tailOf(inst.Path(virtiofsdLog)); len(log) > 0 {
		return logFault(log)
	}
	return "it said nothing"
}

// qemuFault finds the first line of QEMU's log that is no warning.
func qemuFault(log []byte) string {
	for line := range strings.Lines(string(log)) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, ": warning: ") {
			return line
		}
	}
	return ""
}

// start runs a command in the instance's directory, so that it outlives the
// supervisor and whatever session that was started in.
func (m *machine) start(c vm.Command, log string, files ...*os.File) (vm.Process, error) {
	out, err := os.OpenFile(m.inst.Path(log), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return vm.Process{}, fmt.Errorf("start %s: %w", c.Name, err)
	}
	defer out.Close()
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Dir = m.inst.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, files
	if err := vm.StartShielded(cmd); err != nil {
		return vm.Process{}, fmt.Errorf("start %s: %w", c.Name, err)
	}
	p, err := vm.Identify(c.Name, cmd.Process.Pid)
	go cmd.Wait() // reaps it
	return p, err
}

// startVirtiofsd starts virtiofsd on a socket that is listening already, so
// that QEMU can connect at once.
func (m *machine) startVirtiofsd() error {
	listener, err := listen(m.inst.Dir)
	if err != nil {
		return err
	}
	defer listener.Close()
	p, err := m.start(m.command("virtiofsd"), virtiofsdLog, listener)
	m.mu.Lock()
	m.virtiofsd = p
	m.mu.Unlock()
	return err
}

// listen makes the socket that virtiofsd serves, in dir.
func listen(dir string) (*os.File, error) {
	l, err := vm.ListenUnix(dir, shareSocket)
	if err != nil {
		return nil, fmt.Errorf("virtiofsd's socket: %w", err)
	}
	defer l.Close()
	return l.File()
}

// Processes implements [vm.Machine].
func (m *machine) Processes() []vm.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	var running []vm.Process
	for _, p := range []vm.Process{m.qemu, m.virtiofsd} {
		if p.Alive() {
			running = append(running, p)
		}
	}
	if len(running) > 0 && running[0].Name != "qemu" {
		return nil
	}
	return running
}

// Events implements [vm.Machine].
func (m *machine) Events() <-chan vm.Event { return m.events }

// Channel implements [vm.Machine].
func (m *machine) Channel(ctx context.Context) (io.ReadWriteCloser, error) {
	return vm.DialUnix(ctx, m.inst.Dir, channelSocket)
}

// Stop implements [vm.Machine].
func (m *machine) Stop(ctx context.Context, how vm.StopMethod) error {
	switch how {
	case vm.PowerDown:
		return m.execute(ctx, "system_powerdown", nil)
	case vm.Quit:
		err := m.execute(ctx, "quit", nil)
		if errors.Is(err, errQMPClosed) { // it quit before it answered, or there is no connection
			return m.killAll()
		}
		return err
	}
	return m.killAll()
}

func (m *machine) execute(ctx context.Context, command string, arguments any) error {
	m.mu.Lock()
	q := m.qmp
	m.mu.Unlock()
	if q == nil {
		return errQMPClosed
	}
	return q.execute(ctx, command, arguments, nil)
}

func (m *machine) killAll() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var faults []error
	for _, p := range []vm.Process{m.qemu, m.virtiofsd} {
		if p.PID > 0 {
			faults = append(faults, p.Signal(syscall.SIGKILL))
		}
	}
	return errors.Join(faults...)
}

// watch turns what happens to the processes and on QMP into events, until QEMU
// is gone. It is the only sender on m.events.
func (m *machine) watch() {
	defer close(m.events)
	qemuEnd := m.qemu.Done()
	var shareEnd <-chan struct{}
	if m.virtiofsd.PID > 0 {
		shareEnd = m.virtiofsd.Done()
	}

	lines := m.qmp.events
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				lines = nil // QEMU ends, or its socket broke
				continue
			}
			m.takeLine(line)
		case <-shareEnd:
			shareEnd = nil
			select {
			case <-qemuEnd: // virtiofsd ends by itself when QEMU does
			case <-time.After(50 * time.Millisecond):
				m.shareDied()
			}
		case r := <-m.replaced:
			if r.fault == nil {
				shareEnd = m.virtiofsd.Done()
			}
			m.shareReplaced(r)
		case <-qemuEnd:
			m.drain(lines)
			m.cleanUp()
			return
		}
	}
}

// drain takes in what QEMU said before it ended.
func (m *machine) drain(lines <-chan qmpLine) {
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return
			}
			m.takeLine(line)
		case <-time.After(time.Second):
			return
		}
	}
}

// cleanUp cleans up after QEMU and sends the last event.
func (m *machine) cleanUp() {
	m.killAll()
	m.qmp.close()
	for _, name := range []string{qmpSocket, channelSocket, shareSocket} {
		os.Remove(m.inst.Path(name))
	}
	e := vm.Event{Kind: vm.Exited, Time: time.Now()}
	if m.shutdown == "" {
		e.Message = "QEMU ended unexpectedly (killed, or out of memory)"
		if line := qemuFault(tailOf(m.inst.Path(qemuLog))); line != "" {
			e.Message = "QEMU ended unexpectedly: " + line
		}
	}
	m.events <- e
}

func (m *machine) emit(kind vm.EventKind, part, message, cure string) {
	m.events <- vm.Event{Kind: kind, Time: time.Now(), Part: part, Message: message, Cure: cure}
}

// takeLine takes in an event of QEMU.
func (m *machine) takeLine(line qmpLine) {
	var data struct {
		Reason string `json:"reason"`
		Guest  bool   `json:"guest"`
		Device string `json:"device"`
	}
	json.Unmarshal(line.Data, &data)

	switch line.Event {
	case "SHUTDOWN":
		m.shutdown = data.Reason
	case "RESET":
		if data.Guest {
			m.emit(vm.Rebooted, "", data.Reason, "")
		}
	case "DEVICE_DELETED":
		if data.Device == shareDevice && m.deleted != nil {
			close(m.deleted)
			m.deleted = nil
		}
	case "GUEST_PANICKED":
		m.emit(vm.Panicked, "", "the guest told QEMU so", "")
	case "BLOCK_IO_ERROR":
		m.emit(vm.Degraded, "disk", "a disk of the machine cannot be written or read", "look for a full or failing disk on the host, then restart the VM: "+m.plan.RestartCure())
	}
}
