package standin

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// natAddress is an address of this host's loopback that stands for the guest's.
func natAddress(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return fmt.Sprintf("127.%d.%d.%d", 16+sum[0]%200, sum[1], 1+sum[2]%250)
}

// stub is a guest of a few lines.
type stub struct {
	kind   string
	ended  chan error
	serial io.Writer
}

func (p program) startStub(o options, kind string) (machine, error) {
	s := &stub{kind: kind, ended: make(chan error, 2), serial: io.Discard}
	if o.serial != "" {
		f, err := os.OpenFile(o.serial, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		s.serial = f
	}
	fmt.Fprint(s.serial, "[    0.000000] Booting Linux\n")
	if kind == GuestPanic {
		fmt.Fprint(s.serial, "[    1.0] Kernel panic - not syncing: Attempted to kill init!\n[    1.1] last words\n")
	}
	if kind == GuestNoControl {
		return s, s.serveNAT(natAddress(o.dir))
	}

	l, err := listenControl(o.dir)
	if err != nil {
		return nil, err
	}
	go serveEach(l, s.serve)
	return s, nil
}

// listenControl makes control.sock as Tart does, whose own path may be long: by
// a path relative to the VM's directory.
func listenControl(dir string) (net.Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	l, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/control.sock", d.Fd()))
	if err != nil { // one is there (openai/tart#1220)
		return nil, fmt.Errorf("control socket %s: %w", filepath.Join(dir, "control.sock"), err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	return l, nil
}

func serveEach(l net.Listener, serve func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go serve(conn)
	}
}

// serveNAT serves the health on the dashboard's port, once the user may expect it.
func (s *stub) serveNAT(ip string) error {
	l, err := net.Listen("tcp4", fmt.Sprintf("%s:%d", ip, guest.PortDashboard))
	if err != nil {
		return err
	}
	go serveEach(l, func(conn net.Conn) {
		defer conn.Close()
		r := bufio.NewReader(conn)
		first, err := r.Peek(4)
		if err == nil && string(first) == "GET " {
			io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\nOK\n")
			return
		}
		io.Copy(conn, r)
	})
	return nil
}

// serve answers a stream: the dashboard's port sends back what it gets, and
// nobody listens at the others.
func (s *stub) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	stream, err := guest.AcceptStream(r)
	if err != nil || s.kind == GuestDeaf || s.kind == GuestPanic { // as when nobody in the guest listens
		return
	}
	switch stream.Port {
	case 0:
		guest.AnswerStream(conn, nil)
		s.channel(r, conn)
	case guest.PortDashboard:
		guest.AnswerStream(conn, nil)
		framed := guest.FramedReader(conn, r)
		io.Copy(framed, framed)
		framed.CloseWrite()
		io.Copy(io.Discard, r)
	default:
		guest.AnswerStream(conn, errors.New("nobody listens"))
	}
}

func (s *stub) channel(r io.Reader, w io.Writer) {
	say := json.NewEncoder(w)
	calls := json.NewDecoder(r)
	for {
		var call guest.Call
		if calls.Decode(&call) != nil {
			return
		}
		at := 0.2
		switch call.Request {
		case guest.RequestStatus:
			say.Encode(guest.Message{Event: guest.EventPhase, Phase: guest.PhaseSSH, Seconds: &at})
			say.Encode(guest.Message{Event: guest.EventReady, Seconds: &at, Version: "stand-in"})
		case guest.RequestShutdown:
			say.Encode(guest.Message{Event: guest.EventStopping})
			say.Encode(guest.Message{Event: guest.EventStopped})
		}
	}
}

func (s *stub) powerButton() {
	if s.kind == GuestDeaf || s.kind == GuestPanic {
		return
	}
	fmt.Fprint(s.serial, "[   10.0] reboot: Power down\n")
	time.AfterFunc(50*time.Millisecond, func() { s.ended <- nil })
}

func (s *stub) cutPower()         { s.ended <- nil }
func (s *stub) off() <-chan error { return s.ended }
