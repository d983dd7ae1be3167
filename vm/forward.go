package vm

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// forwarder joins ports of the host's loopback with ports of a machine that its
// driver does not forward. It lives in the supervisor: with a dead
// supervisor the connections end, and the next one forwards anew.
type forwarder struct {
	log     *slog.Logger
	ports   []openPort
	cancel  context.CancelFunc
	running sync.WaitGroup // goroutines of serve
}

// openPort is a port of the host that is listened to.
type openPort struct {
	guest.Forward
	listener net.Listener
}

// dialLimit is how long a machine may take to connect, which is one round trip
// within this host.
const dialLimit = 10 * time.Second

// listenForwards listens on every one of ports. On error, which names each port
// that cannot be had and its owner, the others are open all the same.
// Connections wait until [forwarder.serve].
func listenForwards(ports []guest.Forward, log *slog.Logger) (*forwarder, error) {
	f := &forwarder{log: log}
	var faults []error
	for _, port := range ports {
		l, err := net.Listen("tcp4", loopback(port.Host))
		if err != nil {
			faults = append(faults, portFault(port, err))
			continue
		}
		f.ports = append(f.ports, openPort{port, l})
	}
	return f, errors.Join(faults...)
}

// loopback is the address of a port that only this host reaches.
func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// serve joins every connection with one of the dialer's until ctx ends or
// close is called. It returns at once.
func (f *forwarder) serve(ctx context.Context, dialer Dialer) {
	ctx, f.cancel = context.WithCancel(ctx)
	for _, port := range f.ports {
		f.running.Go(func() { f.accept(ctx, dialer, port) })
	}
}

// close ends all connections and frees the ports.
func (f *forwarder) close() {
	for _, port := range f.ports {
		port.listener.Close()
	}
	if f.cancel != nil {
		f.cancel()
	}
}

// accept serves one port until its listener is closed.
func (f *forwarder) accept(ctx context.Context, dialer Dialer, port openPort) {
	for {
		conn, err := port.listener.Accept()
		switch {
		case err == nil:
			f.running.Go(func() { f.join(ctx, dialer, port.Forward, conn) })
			continue
		case errors.Is(err, net.ErrClosed):
			return
		}

		f.log.Warn("connection not accepted", "port", port.Name, "err", err) // out of descriptors
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// join connects a client of the host with the machine and copies both ways
// until both directions ended. Where the machine cannot be reached the client
// is told by a reset.
func (f *forwarder) join(ctx context.Context, dialer Dialer, port guest.Forward, client net.Conn) {
	defer client.Close()
	limited, cancel := context.WithTimeout(ctx, dialLimit)
	machine, err := dialer.Dial(limited, port.Guest)
	cancel()
	if err != nil {
		f.log.Debug("machine not reached", "port", port.Name, "err", err)
		reset(client)
		return
	}
	defer machine.Close()
	defer context.AfterFunc(ctx, func() {
		reset(client)
		reset(machine)
	})()

	var upstream sync.WaitGroup
	upstream.Go(func() { passOn(machine, client) })
	passOn(client, machine)
	upstream.Wait()
}

// passOn copies what from sends to to, and then the end of it. A connection
// that broke on one side breaks on the other: a client must not take half an
// answer for a whole one.
func passOn(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		reset(to)
		reset(from)
		return
	}

	half, ok := to.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		to.Close()
		from.Close()
	}
}

// reset closes a connection in a way that its peer sees as an error, where the
// transport has one.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}
