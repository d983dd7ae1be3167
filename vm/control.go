package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// request is what a command asks the supervisor: one line of JSON. The answer
// is the State as a line of JSON, now and at every change, until the
// supervisor ends or the command hangs up.
type request struct {
	Request string  `json:"request"`           // "watch", "stop" or "forward"
	Timeout float64 `json:"timeout,omitempty"` // of a stop, seconds
	Force   bool    `json:"force,omitempty"`   // do not ask the guest

	Ports []guest.Forward `json:"ports,omitempty"` // to forward to the guest's loopback
}

// answer is one line of the supervisor.
type answer struct {
	State
	Fault string `json:"fault,omitempty"` // why the request is refused; nothing follows
}

// subscriber receives states; it is dropped when it is slow to read them.
type subscriber chan State

// control serves the supervisor's socket until the listener is closed.
func (s *supervisor) control(ctx context.Context, l *net.UnixListener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go s.serve(ctx, conn)
	}
}

// serve answers one command.
func (s *supervisor) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	var r request
	if err := json.NewDecoder(bufio.NewReader(conn)).Decode(&r); err != nil {
		return
	}
	d := subscription{request: r, states: make(subscriber, 64), refused: make(chan error, 1)}
	select {
	case s.requests <- d:
	case <-ctx.Done():
		return
	}

	out := json.NewEncoder(conn)
	select {
	case err := <-d.refused:
		if err != nil {
			conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
			out.Encode(answer{Fault: err.Error()}) // who asked may have hung up
			return
		}
	case <-ctx.Done():
		return
	}

	for state := range d.states { // closed by the supervisor at its end
		conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
		if out.Encode(state) != nil {
			return // the supervisor drops the subscriber when its buffer is full
		}
	}
}

// subscription is a request with the place its answers go to.
type subscription struct {
	request
	states  subscriber
	refused chan error // gets why the request is refused, or is closed
}

// askSupervisor sends a request to the supervisor of the instance in dir and calls each
// with every state until it returns false or the supervisor ends.
func askSupervisor(ctx context.Context, dir string, r request, each func(State) bool) error {
	conn, err := DialUnix(ctx, dir, ControlSocket)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return fmt.Errorf("ask the supervisor: %w", err)
	}
	in := json.NewDecoder(bufio.NewReader(conn))
	for {
		var a answer
		if err := in.Decode(&a); err != nil {
			return ctx.Err() // the supervisor ended: the state file has the last word
		}
		if a.Fault != "" {
			return errors.New(a.Fault)
		}
		if !each(a.State) {
			return nil
		}
	}
}
