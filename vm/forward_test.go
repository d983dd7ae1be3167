package vm

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// patience is how long a machine that is busy may take for what takes no time.
const patience = time.Minute

// serveGuest runs a server in place of the guest and returns its address.
func serveGuest(t *testing.T, serve func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn.(*net.TCPConn))
		}
	}()
	return l.Addr().String()
}

// echo sends back what it gets, and then closes.
func echo(conn *net.TCPConn) {
	defer conn.Close()
	io.Copy(conn, conn)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// forward runs a forwarder from a free port to a guest whose dashboard is at
// that address, and none where it is empty.
func forward(t *testing.T, address string) (f *forwarder, port int) {
	t.Helper()
	port = freePort(t)
	f, err := listenForwards(guest.Ports{Dashboard: port}.Forwards(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m := &fakeMachine{}
	if address != "" {
		m.guest = map[int]string{guest.PortDashboard: address}
	}
	f.serve(t.Context(), m)
	t.Cleanup(func() { endForwarder(t, f) })
	return f, port
}

// endForwarder closes a forwarder, of which nothing may stay.
func endForwarder(t *testing.T, f *forwarder) {
	t.Helper()
	f.close()
	ended := make(chan struct{})
	go func() {
		f.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		stacks := make([]byte, 1<<20)
		t.Fatalf("goroutines stay:\n%s", stacks[:runtime.Stack(stacks, true)])
	}
}

// connect connects to a port of the host, with a limit for all that follows.
func connect(t *testing.T, port int) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp4", loopback(port), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn.(*net.TCPConn)
}

func TestForwarder_parallel(t *testing.T) {
	before := runtime.NumGoroutine()
	f, port := forward(t, serveGuest(t, echo))
	errs := make(chan error, 100)
	for range cap(errs) {
		conn := connect(t, port)
		go func() { errs <- roundTrip(conn, 200<<10) }()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	endForwarder(t, f)
	for limit := time.Now().Add(patience); runtime.NumGoroutine() > before+1; time.Sleep(10 * time.Millisecond) { // the echo server stays
		if time.Now().After(limit) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
}

// roundTrip sends bytes, says that they are all, and wants them back with
// their end.
func roundTrip(conn *net.TCPConn, n int) error {
	sent := make([]byte, n)
	rand.Read(sent)
	wrote := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		wrote <- errors.Join(err, conn.CloseWrite())
	}()
	got, err := io.ReadAll(conn)
	if err := errors.Join(err, <-wrote); err != nil {
		return err
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("%d bytes came back of %d", len(got), len(sent))
	}
	return nil
}

func TestForwarder_halfClosed(t *testing.T) {
	received := make(chan string, 1)
	t.Run("by the client", func(t *testing.T) {
		_, port := forward(t, serveGuest(t, func(conn *net.TCPConn) {
			defer conn.Close()
			b, _ := io.ReadAll(conn) // the answer needs the end of the question
			fmt.Fprintf(conn, "got %s", b)
		}))
		conn := connect(t, port)
		io.WriteString(conn, "all of it")
		conn.CloseWrite()
		if b, err := io.ReadAll(conn); err != nil || string(b) != "got all of it" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("by the guest", func(t *testing.T) {
		_, port := forward(t, serveGuest(t, func(conn *net.TCPConn) {
			defer conn.Close()
			io.WriteString(conn, "goodbye")
			conn.CloseWrite()
			b, _ := io.ReadAll(conn)
			received <- string(b)
		}))
		conn := connect(t, port)
		if b, err := io.ReadAll(conn); err != nil || string(b) != "goodbye" {
			t.Errorf("%q, %v", b, err)
		}
		io.WriteString(conn, "but listen")
		conn.CloseWrite()
		if got := <-received; got != "but listen" {
			t.Errorf("the guest got %q", got)
		}
	})
}

// TestForwarder_nobodyListens is a guest that is not up yet.
func TestForwarder_nobodyListens(t *testing.T) {
	_, port := forward(t, "")
	start := time.Now()
	if err := refusal(port); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	if took := time.Since(start); took > dialLimit/2 {
		t.Errorf("it took %s", took)
	}
}

// refusal is what a client meets at a port without a server in the guest. It
// may come while the client still connects.
func refusal(port int) error {
	conn, err := net.DialTimeout("tcp4", loopback(port), patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	_, err = conn.Read(make([]byte, 1))
	return err
}

// TestForwarder_broken has the guest break the connection: its client must not
// take that for an end.
func TestForwarder_broken(t *testing.T) {
	_, port := forward(t, serveGuest(t, func(conn *net.TCPConn) {
		conn.Read(make([]byte, 1))
		reset(conn)
	}))
	conn := connect(t, port)
	io.WriteString(conn, "x")
	if b, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q, %v; want a reset", b, err)
	}
}

// TestForwarder_end has an idle connection when the machine goes off.
func TestForwarder_end(t *testing.T) {
	f, port := forward(t, serveGuest(t, echo))
	conn := connect(t, port)
	io.WriteString(conn, "x")
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	endForwarder(t, f)
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection lives: %v", err)
	}
	if err := CheckPorts(guest.Ports{Dashboard: port}); err != nil {
		t.Errorf("the port is not free: %v", err)
	}
}

// withoutHalves is a transport that cannot end one direction.
type withoutHalves struct{ net.Conn }

func TestPassOn_withoutHalves(t *testing.T) {
	client, clientEnd := net.Pipe()
	machine, machineEnd := net.Pipe()
	var both sync.WaitGroup
	both.Go(func() { passOn(withoutHalves{machine}, client) })
	both.Go(func() { passOn(client, withoutHalves{machine}) })
	clientEnd.Close()
	if _, err := machineEnd.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the machine's side: %v", err)
	}
	both.Wait()
}

// supervised runs a supervisor of a fake machine in this process.
type supervised struct {
	inst  Instance
	die   func()
	ended chan error
}

func superviseFake(t *testing.T, inst Instance, d *fakeDriver, launch bool) (s supervised, answer string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s = supervised{inst, cancel, make(chan error, 1)}
	r, w := io.Pipe()
	go func() {
		s.ended <- Supervise(ctx, inst.Dir, SuperviseOptions{
			Drivers: Drivers{"fake": func() Driver { return d }}, Launch: launch, Ready: w, Log: slog.New(slog.DiscardHandler),
		})
		w.Close()
	}()
	line := make([]byte, 4096)
	n, err := r.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, r)
	return s, string(line[:n])
}

// stop ends the machine and waits for its supervisor. These ports are to be
// free as soon as the machine is said to be off.
func (s supervised) stop(t *testing.T, ports guest.Ports) {
	t.Helper()
	err := askSupervisor(t.Context(), s.inst.Dir, request{Request: "stop", Force: true}, func(s State) bool {
		if s.Status != Stopped {
			return true
		}
		if err := CheckPorts(ports); err != nil {
			t.Errorf("when the machine is said to be off: %v", err)
		}
		return false
	})
	if err != nil {
		t.Error(err)
	}
	select {
	case err := <-s.ended:
		if err != nil {
			t.Errorf("supervisor: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the supervisor does not end")
	}
}

func TestSupervise_forwards(t *testing.T) {
	c := validConfig()
	c.Name, c.Ports = "one", guest.Ports{SSH: freePort(t), Dashboard: freePort(t)}
	d := &fakeDriver{guest: map[int]string{guest.PortDashboard: serveGuest(t, echo)}}
	inst := fakeInstance(t, c, d)
	s, answer := superviseFake(t, inst, d, true)
	if answer != "{}\n" {
		t.Fatalf("answer %q", answer)
	}
	if err := roundTrip(connect(t, c.Ports.Dashboard), 100); err != nil {
		t.Errorf("dashboard: %v", err)
	}
	if err := refusal(c.Ports.SSH); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a port without a server: %v", err)
	}

	// The next supervisor forwards anew.
	idle := connect(t, c.Ports.Dashboard)
	s.die()
	if err := <-s.ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("the supervisor ended with %v", err)
	}
	if _, err := idle.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection of the dead supervisor lives: %v", err)
	}
	if s, answer = superviseFake(t, inst, d, false); answer != "{}\n" {
		t.Fatalf("answer of the second %q", answer)
	}
	if err := roundTrip(connect(t, c.Ports.Dashboard), 100); err != nil {
		t.Errorf("adopted: %v", err)
	}

	s.stop(t, c.Ports)
}

func TestSupervise_forwards_busyPort(t *testing.T) {
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	c := validConfig()
	c.Name, c.Ports = "one", guest.Ports{SSH: busy.Addr().(*net.TCPAddr).Port, Dashboard: freePort(t)}
	d := &fakeDriver{guest: map[int]string{guest.PortDashboard: serveGuest(t, echo)}}
	owner := fmt.Sprintf("port %d (ssh) is in use by", c.Ports.SSH)

	t.Run("launch", func(t *testing.T) {
		inst := fakeInstance(t, c, d)
		s, answer := superviseFake(t, inst, d, true)
		if err := <-s.ended; err == nil || !strings.Contains(answer, owner) {
			t.Errorf("answer %q, %v", answer, err)
		}
		state, err := readState(inst.Dir)
		if err != nil || state.Status != Failed || state.On() || !strings.Contains(state.Failure.Message, owner) {
			t.Errorf("state %+v, %v", state, err)
		}
		if err := CheckPorts(guest.Ports{Dashboard: c.Ports.Dashboard}); err != nil {
			t.Errorf("the other port stays taken: %v", err)
		}
	})
	t.Run("attach", func(t *testing.T) { // the machine is worth more than its ports
		inst := fakeInstance(t, c, d)
		m, err := d.Launch(t.Context(), inst, Plan{}, func(Process) {})
		if err != nil {
			t.Fatal(err)
		}
		if err := writeState(inst.Dir, State{Name: "one", Status: Ready, Processes: m.Processes()}); err != nil {
			t.Fatal(err)
		}
		s, answer := superviseFake(t, inst, d, false)
		if answer != "{}\n" {
			t.Fatalf("answer %q", answer)
		}
		state, err := readState(inst.Dir)
		if err != nil || len(state.Troubles) != 1 || !strings.Contains(state.Troubles[0].Message, owner) {
			t.Errorf("state %+v, %v", state, err)
		}
		if err := roundTrip(connect(t, c.Ports.Dashboard), 100); err != nil {
			t.Errorf("the other port: %v", err)
		}
		s.stop(t, guest.Ports{Dashboard: c.Ports.Dashboard})
	})
}

// undialled is a driver whose declaration is not true.
type undialled struct{ *fakeDriver }

func (d *undialled) Launch(ctx context.Context, inst Instance, plan Plan, started func(Process)) (Machine, error) {
	m, err := d.fakeDriver.Launch(ctx, inst, plan, started)
	return struct{ Machine }{m}, err
}

func TestSupervise_forwards_noDialer(t *testing.T) {
	d := &fakeDriver{}
	c := validConfig()
	c.Name, c.Ports = "one", guest.Ports{Dashboard: freePort(t)}
	inst := fakeInstance(t, c, d)
	var answer bytes.Buffer
	err := Supervise(t.Context(), inst.Dir, SuperviseOptions{
		Drivers: Drivers{"fake": func() Driver { return &undialled{d} }}, Launch: true, Ready: &answer, Log: slog.New(slog.DiscardHandler),
	})
	if err == nil || !strings.Contains(err.Error(), "neither forwards") {
		t.Errorf("got %v", err)
	}
	if state, err := readState(inst.Dir); err != nil || state.On() || state.Status != Failed {
		t.Errorf("state %+v, %v", state, err)
	}
}
