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

var (
	// errNobody is that no address of the container has the port.
	errNobody = errors.New("nothing listens on this port")
	// errOutside is that the relay may not enter a container: Podman has made
	// itself another user namespace since it was entered.
	errOutside = errors.New("the container is not in the relay's user namespace")
)

// connect dials the port in the network of the process, files[0]. The func that
// it returns copies between what it dialed and the connection files[1], until
// both are closed.
func connect(files []*os.File, port int) (func(), error) {
	conn, err := net.FileConn(files[1])
	if err != nil {
		return nil, fmt.Errorf("take over the connection: %w", err)
	}
	closeAll(files[1:]) // or its end would not be seen
	client, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("what was handed over is not a connection of a unix socket"), conn.Close())
	}

	app, err := inNetwork(files[0], func() (*net.TCPConn, error) { return dialLocal(port) })
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return func() { join(client, app) }, nil
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

// join copies both ways until both are over. What one side ends is ended at the
// other; a side that fails ends both.
func join(client *net.UnixConn, app *net.TCPConn) {
	defer client.Close()
	defer app.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := io.Copy(app, client); err != nil || app.CloseWrite() != nil {
			_, _ = app.Close(), client.Close()
		}
	})
	wg.Go(func() {
		if _, err := io.Copy(client, app); err != nil || client.CloseWrite() != nil {
			_, _ = app.Close(), client.Close()
		}
	})
	wg.Wait()
}
