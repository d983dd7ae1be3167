package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// dialTime bounds how long one address of a container may take to answer: it is
// on the same machine.
const dialTime = 3 * time.Second

// maxConnections is how many connections a workspace may have at the same time,
// those that are being dialed included: what a workspace does not end takes
// files and memory that all have in common.
const maxConnections = 256

// Once the client is gone, which is looked at every goneInterval, the application
// has lingerTime to take what was sent to it.
const (
	goneInterval = 5 * time.Second
	lingerTime   = 30 * time.Second
)

var (
	// errNobody is that no address of the container has the port.
	errNobody = errors.New("nothing listens on this port")
	// errOutside is that the relay may not enter a container: Podman has made
	// itself another user namespace since it was entered.
	errOutside = errors.New("the container is not in the relay's user namespace")
	// errFull is that a workspace has maxConnections.
	errFull = fmt.Errorf("the workspace has %d connections of previews already", maxConnections)
)

// connections counts those that are open, by network namespace.
type connections struct {
	mu   sync.Mutex
	open map[string]int
}

// begin counts one, unless there are maxConnections.
func (c *connections) begin(network string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[string]int{}
	}
	if c.open[network] >= maxConnections {
		return errFull
	}
	c.open[network]++
	return nil
}

func (c *connections) end(network string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[network]--; c.open[network] == 0 {
		delete(c.open, network)
	}
}

// connect dials the port in the network of the process, files[0]. The func that
// it returns copies between what it dialed and the connection files[1], until
// both are closed, or the client is gone.
func (r *Relay) connect(files []*os.File, port int) (func(), error) {
	conn, err := net.FileConn(files[1])
	if err != nil {
		return nil, fmt.Errorf("take over the connection: %w", err)
	}
	closeAll(files[1:]) // or its end would not be seen
	client, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("what was handed over is not a connection of a unix socket"), conn.Close())
	}

	network := ""
	app, err := inNetwork(files[0], func() (app *net.TCPConn, err error) {
		if network, err = ownNetwork(); err != nil {
			return nil, err
		}
		if err := r.open.begin(network); err != nil {
			return nil, err
		}
		if app, err = dialLocal(port); err != nil {
			r.open.end(network)
		}
		return app, err
	})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return func() {
		defer r.open.end(network)
		joint{client: client, app: app, interval: goneInterval, linger: lingerTime}.join()
	}, nil
}

// inNetwork runs f on a thread in the network namespace of a process. The thread
// ends with f, for it could not come back.
func inNetwork[T any](process *os.File, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() { done <- r }()
		if r.err = enterNetwork(process); r.err == nil {
			r.value, r.err = f()
		}
	}()
	r := <-done
	return r.value, r.err
}

// dialLocal dials the port at the addresses of this thread's network namespace,
// those of the loopback interface first.
func dialLocal(port int) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime-time.Second)
	defer cancel()
	first := []string{"127.0.0.1", "::1"}
	c, err := dialEach(ctx, first, port)
	if c != nil || err != nil {
		return c, err
	}

	others, err := otherAddresses()
	if err != nil {
		return nil, err
	}
	if c, err = dialEach(ctx, others, port); c == nil && err == nil {
		err = errNobody
	}
	return c, err
}

// dialEach returns the first connection that is accepted, or nil. An address
// that the container does not have is like one at which nobody listens.
func dialEach(ctx context.Context, addresses []string, port int) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: dialTime, KeepAlive: -1}
	for _, a := range addresses {
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(a, strconv.Itoa(port)))
		if err == nil {
			return c.(*net.TCPConn), nil
		}
		if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EAFNOSUPPORT) {
			return nil, fmt.Errorf("dial the application: %w", err)
		}
	}
	return nil, nil
}

// otherAddresses are those of this thread's network namespace that are neither
// of the loopback interface nor of one link alone.
func otherAddresses() ([]string, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the container's addresses: %w", err)
	}
	var others []string
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			others = append(others, n.IP.String())
		}
	}
	return others, nil
}

// joint is a client and an application that are joined.
type joint struct {
	client           *net.UnixConn
	app              *net.TCPConn
	interval, linger time.Duration
}

// join copies both ways until both are over. What one side ends is ended at the
// other; a side that fails ends both, and so does, a while later, a client that
// is gone, whatever the application does.
func (j joint) join() {
	defer j.close()
	var copies sync.WaitGroup
	copies.Go(func() {
		if _, err := io.Copy(j.app, j.client); err != nil || j.app.CloseWrite() != nil {
			j.close()
		}
	})
	copies.Go(func() {
		if _, err := io.Copy(j.client, j.app); err != nil || j.client.CloseWrite() != nil {
			j.close()
		}
	})

	over := make(chan struct{})
	go func() {
		copies.Wait()
		close(over)
	}()
	j.awaitGone(over)
	select {
	case <-over:
	case <-time.After(j.linger):
		j.close()
		<-over
	}
}

// awaitGone returns when the client is gone, or the copies are over. Only a look
// tells: a copy that waits for the application does not read from the client.
func (j joint) awaitGone(over <-chan struct{}) {
	look := time.NewTicker(j.interval)
	defer look.Stop()
	for !gone(j.client) {
		select {
		case <-over:
			return
		case <-look.C:
		}
	}
}

func (j joint) close() { _, _ = j.app.Close(), j.client.Close() }

// gone reports whether the other end of a connection is closed: both of its
// directions, not what it sends alone.
func gone(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	state := []unix.PollFd{{}}
	err = raw.Control(func(fd uintptr) {
		state[0].Fd = int32(fd)
		_, _ = unix.Poll(state, 0) // at fault it says nothing, and the next look does
	})
	return err != nil || state[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}
