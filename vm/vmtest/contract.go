// Package vmtest is the contract of [vm.Driver], as a suite that every driver's
// tests run: what a host can do with an instance, whatever runs the machine. The
// machines may be real or played by a stand-in.
//
// It is for tests alone and imports vm and guest.
package vmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

// Subject is an instance that was never started, on a host of its own.
type Subject struct {
	Host    vm.Host
	Config  vm.Config
	Machine string // name of the machine's own process

	Speaks   bool                                       // the guest says that it is ready, and obeys
	Off      bool                                       // the guest obeys the power button
	Port     func(t *testing.T, conn *net.TCPConn)      // what the dashboard's port does; nil: it is not tried
	Console  string                                     // what the console has once the machine is on; "" is not tried
	KeptFile string                                     // in the instance's directory: what must stay over starts; "" for none
	Limit    time.Duration                              // for what a machine does; 0 is a minute
	Check    func(t *testing.T, s Subject, on vm.State) // of a machine that is ready; may be nil
}

// Run runs the suite, each part on a subject of its own that the test makes.
func Run(t *testing.T, subject func(t *testing.T) Subject) {
	for _, part := range []struct {
		name string
		run  func(*contract)
	}{
		{"life", (*contract).life},
		{"killed supervisor", (*contract).killedSupervisor},
		{"killed machine", (*contract).killedMachine},
		{"busy port", (*contract).busyPort},
		{"nothing of it", (*contract).nothing},
	} {
		t.Run(part.name, func(t *testing.T) {
			c := &contract{T: t, Subject: subject(t)}
			if c.Limit == 0 {
				c.Limit = time.Minute
			}
			t.Cleanup(c.destroy)
			part.run(c)
		})
	}
}

type contract struct {
	*testing.T
	Subject
}

// destroy removes the instance, of which nothing may stay.
func (c *contract) destroy() {
	if c.Failed() {
		log, _ := os.ReadFile(c.path("supervisor.log"))
		c.Logf("supervisor.log\n%s", log)
	}
	for range 2 { // the second time there is nothing
		if err := c.Host.Destroy(context.Background(), c.Config.Name); err != nil {
			c.Errorf("destroy: %v", err)
		}
	}
	if _, err := os.Stat(c.path("")); !errors.Is(err, os.ErrNotExist) {
		c.Errorf("destroy left the directory: %v", err)
	}
	if state, err := c.Host.Status(context.Background(), c.Config.Name); !errors.Is(err, vm.ErrNotFound) {
		c.Errorf("after destroy: %+v, %v", state, err)
	}
}

func (c *contract) path(name string) string { return filepath.Join(c.Host.Dir, c.Config.Name, name) }

// start starts the instance, and waits until it is ready where that is said.
func (c *contract) start() vm.State {
	c.Helper()
	state, err := c.Host.Start(c.Context(), c.Config, nil)
	if err != nil {
		c.Fatalf("start: %v", err)
	}
	if c.Speaks {
		if state, err = c.Host.WaitReady(c.Context(), c.Config.Name, c.Limit, nil); err != nil {
			c.Fatalf("wait: %v", err)
		}
	}
	return state
}

func (c *contract) status() vm.State {
	c.Helper()
	state, err := c.Host.Status(c.Context(), c.Config.Name)
	if err != nil {
		c.Fatalf("status: %v", err)
	}
	return state
}

func (c *contract) stop() vm.State {
	c.Helper()
	var rungs []string
	state, err := c.Host.Stop(c.Context(), c.Config.Name, vm.StopOptions{}, func(p vm.Progress) { rungs = append(rungs, p.Note) })
	if err != nil || state.Status != vm.Stopped || state.On() {
		c.Fatalf("stop: %s, %v", state.Status, err)
	}
	if !c.Off {
		return state
	}
	if state.LastStop != "power button" {
		c.Errorf("ended by %q after %q", state.LastStop, rungs)
	}
	// The state is looked at now and then, so a rung may pass between two looks.
	known := []string{"power button"}
	if c.Speaks {
		known = append(known, "asked the guest")
	}
	for _, rung := range rungs {
		if !slices.Contains(known, rung) {
			c.Errorf("rungs %q, of which %q is none of %q", rungs, rung, known)
		}
	}
	return state
}

// eventually waits until check holds.
func (c *contract) eventually(what string, check func() bool) {
	c.Helper()
	for end := time.Now().Add(c.Limit); !check(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			c.Fatalf("%s: never seen; the state is %+v", what, c.status())
		}
	}
}

// kill ends a process at once.
func (c *contract) kill(p vm.Process) {
	c.Helper()
	if err := p.Signal(syscall.SIGKILL); err != nil {
		c.Fatal(err)
	}
	<-p.Done()
}

// life is a start, what can be done with what runs, a stop, and all of it again.
func (c *contract) life() {
	state := c.start()
	c.isOn(state)
	if _, err := c.Host.Start(c.Context(), c.Config, nil); !errors.Is(err, vm.ErrAlreadyRunning) {
		c.Errorf("a second start: %v", err)
	}
	c.tryPort()
	if c.Check != nil {
		c.Check(c.T, c.Subject, state)
	}
	if c.Console != "" {
		c.eventually("the console", func() bool {
			var log bytes.Buffer
			return c.Host.Logs(c.Context(), c.Config.Name, vm.LogOptions{}, &log) == nil && strings.Contains(log.String(), c.Console)
		})
	}

	c.stop()
	if state := c.status(); state.Status != vm.Stopped || len(state.Processes) > 0 {
		c.Errorf("after the stop: %+v", state)
	}
	if state, err := c.Host.Stop(c.Context(), c.Config.Name, vm.StopOptions{}, nil); err != nil || state.Status != vm.Stopped {
		c.Errorf("a second stop: %s, %v", state.Status, err)
	}
	c.keeps(func() { c.isOn(c.start()) })
	c.stop()
}

// isOn looks at the state of what runs.
func (c *contract) isOn(state vm.State) {
	c.Helper()
	switch {
	case !state.On() || len(state.Processes) == 0:
		c.Fatalf("not on: %+v", state)
	case state.Processes[0].Name != c.Machine:
		c.Errorf("the machine's own process is %q, want %q", state.Processes[0].Name, c.Machine)
	case state.Driver != c.Host.Driver.Name():
		c.Errorf("driver %q", state.Driver)
	case c.Speaks && state.Status != vm.Ready:
		c.Errorf("status %s", state.Status)
	}
}

// keeps has a file of the instance's hold over what do does.
func (c *contract) keeps(do func()) {
	c.Helper()
	if c.KeptFile == "" {
		do()
		return
	}
	const mark = "of the user"
	f, err := os.OpenFile(c.path(c.KeptFile), os.O_WRONLY, 0)
	if err != nil {
		c.Fatal(err)
	}
	_, err = f.WriteAt([]byte(mark), 1<<20)
	if err := errors.Join(err, f.Close()); err != nil {
		c.Fatal(err)
	}
	do()

	b := make([]byte, len(mark))
	f, err = os.Open(c.path(c.KeptFile))
	if err != nil {
		c.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(b, 1<<20); err != nil || string(b) != mark {
		c.Errorf("%s has %q, %v", c.KeptFile, b, err)
	}
}

// tryPort speaks to the dashboard's port.
func (c *contract) tryPort() {
	c.Helper()
	if c.Port == nil {
		return
	}
	conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", c.Config.Ports.Dashboard))
	if err != nil {
		c.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(c.Limit))
	c.Port(c.T, conn.(*net.TCPConn))
}

// Echo is a [Subject.Port] of a guest that sends back what it gets, and ends
// when that ends.
func Echo(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	sent := bytes.Repeat([]byte("there and back "), 20_000)
	go func() {
		conn.Write(sent)
		conn.CloseWrite()
	}()
	if b, err := io.ReadAll(conn); !bytes.Equal(b, sent) || err != nil {
		t.Errorf("the port sent %d bytes back of %d, %v", len(b), len(sent), err)
	}
}

// killedSupervisor: the machine goes on, and the next command takes it over.
func (c *contract) killedSupervisor() {
	before := c.start()
	c.kill(before.Supervisor)
	c.eventually("another supervisor", func() bool {
		after := c.status()
		return after.Supervisor.PID != before.Supervisor.PID && after.Supervisor.Alive()
	})
	if after := c.status(); !after.On() || after.Processes[0] != before.Processes[0] {
		c.Fatalf("another machine: %+v, before %+v", after.Processes, before.Processes)
	}
	c.eventually("the ports again", func() bool {
		conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", c.Config.Ports.Dashboard))
		if err == nil {
			conn.Close()
		}
		return err == nil || c.Port == nil
	})
	c.tryPort()
	c.stop()
}

// killedMachine: that is a failure, which says so, and the next start works.
func (c *contract) killedMachine() {
	before := c.start()
	c.kill(before.Processes[0])
	c.eventually("the failure", func() bool { return c.status().Status == vm.Failed })
	state := c.status()
	if state.On() || state.Failure == nil || state.Failure.Message == "" {
		c.Errorf("state %+v", state)
	}
	c.keeps(func() { c.isOn(c.start()) })
	c.stop()
}

// busyPort: it is named before anything starts.
func (c *contract) busyPort() {
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", c.Config.Ports.Dashboard))
	if err != nil {
		c.Fatal(err)
	}
	defer l.Close()
	_, err = c.Host.Start(c.Context(), c.Config, nil)
	if want := fmt.Sprintf("port %d", c.Config.Ports.Dashboard); err == nil || !strings.Contains(err.Error(), want) {
		c.Errorf("a busy port: %v", err)
	}
}

// nothing: an instance that was never started is off, and is destroyed.
func (c *contract) nothing() {
	state, err := c.Host.Stop(c.Context(), c.Config.Name, vm.StopOptions{}, nil)
	if err != nil || state.Status != vm.Stopped {
		c.Errorf("stop: %s, %v", state.Status, err)
	}
	if _, err := c.Host.SSH(c.Context(), c.Config.Name, vm.SSHOptions{Command: []string{"true"}}); !errors.Is(err, vm.ErrNotFound) {
		c.Errorf("ssh: %v", err)
	}
}

// FreePort is a port of the loopback that nobody listens at.
func FreePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Ports are free ports for the dashboard alone.
func Ports(t *testing.T) guest.Ports { return guest.Ports{Dashboard: FreePort(t)} }
