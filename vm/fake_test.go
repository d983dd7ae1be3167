package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
)

// fakeDriver runs machines that are a process which sleeps, and whose guest's
// ports are servers of the test. It does not forward.
type fakeDriver struct {
	Setting string `json:"setting"`

	can       Capabilities
	guest     map[int]string // addresses that answer for the guest's ports
	prepared  func(Instance) error
	destroyed *[]Instance
	fault     error // of Destroy
}

func (*fakeDriver) Name() string                 { return "fake" }
func (d *fakeDriver) Capabilities() Capabilities { return d.can }

func (d *fakeDriver) Prepare(_ context.Context, inst Instance) (Plan, error) {
	if d.prepared != nil {
		return Plan{}, d.prepared(inst)
	}
	return Plan{}, nil
}

func (d *fakeDriver) Launch(_ context.Context, inst Instance, _ Plan, started func(Process)) (Machine, error) {
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p, err := Identify("sleep", cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	started(p)
	go cmd.Wait()
	return newFakeMachine(p, d.guest), nil
}

func (d *fakeDriver) Attach(_ context.Context, _ Instance, _ Plan, state State) (Machine, error) {
	return newFakeMachine(state.Processes[0], d.guest), nil
}

func (d *fakeDriver) Destroy(_ context.Context, inst Instance) error {
	if d.destroyed != nil {
		*d.destroyed = append(*d.destroyed, inst)
	}
	return d.fault
}

// fakeMachine is a [Dialer].
type fakeMachine struct {
	process Process
	guest   map[int]string
	events  chan Event
	asked   atomic.Bool // to end
}

func newFakeMachine(p Process, guest map[int]string) *fakeMachine {
	m := &fakeMachine{process: p, guest: guest, events: make(chan Event, 1)}
	done := p.Done()
	go func() {
		<-done
		end := Event{Kind: Exited}
		if !m.asked.Load() {
			end.Message = "the fake was killed"
		}
		m.events <- end
		close(m.events)
	}()
	return m
}

func (m *fakeMachine) Processes() []Process { return []Process{m.process} }
func (m *fakeMachine) Events() <-chan Event { return m.events }

func (m *fakeMachine) Channel(context.Context) (io.ReadWriteCloser, error) {
	return nil, errors.ErrUnsupported
}

func (m *fakeMachine) Stop(context.Context, StopMethod) error {
	m.asked.Store(true)
	return m.process.Signal(syscall.SIGKILL)
}

func (m *fakeMachine) Dial(ctx context.Context, port int) (net.Conn, error) {
	address, ok := m.guest[port]
	if !ok {
		return nil, fmt.Errorf("port %d: %w", port, syscall.ECONNREFUSED)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp4", address)
}

// fakeInstance is an instance that Host.Start made with a fakeDriver.
func fakeInstance(t *testing.T, c Config, d *fakeDriver) Instance {
	t.Helper()
	inst := Instance{Dir: filepath.Join(t.TempDir(), "one"), Config: c}
	if err := os.Mkdir(inst.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		writeJSON(inst.Path(configFile), c),
		writeJSON(inst.Path(planFile), Plan{}),
		saveDriver(inst, d),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return inst
}
