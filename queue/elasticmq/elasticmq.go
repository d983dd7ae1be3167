// Package elasticmq leads clients to an ElasticMQ that the user supplies, which
// then is the queue in the place of package sqs. It owns ElasticMQ's process,
// which ends with it, and imports nothing of this project.
package elasticmq

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Server is an ElasticMQ.
type Server struct {
	Java   string // program
	Jar    string // elasticmq-server-all-VERSION.jar
	Config string // its configuration, or ""
	Port   int    // that clients reach it at
	Out    io.Writer
}

// args are Java's arguments for an ElasticMQ that listens at port on the loopback
// interface. Its addresses of queues name the port of its clients; the properties
// win over the configuration.
func (s *Server) args(port int) []string {
	args := []string{
		"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m",
		"-Dnode-address.protocol=http", "-Dnode-address.host=localhost", "-Dnode-address.port=" + strconv.Itoa(s.Port),
		"-Drest-sqs.enabled=true", "-Drest-sqs.bind-hostname=127.0.0.1", "-Drest-sqs.bind-port=" + strconv.Itoa(port),
		"-Drest-stats.enabled=false",
	}
	if s.Config != "" {
		args = append(args, "-Dconfig.file="+s.Config)
	}
	return append(args, "-jar", s.Jar)
}

// Serve runs ElasticMQ and leads the connections of the listeners to it, the
// first ones when it listens. It returns nil when the context ended, and
// otherwise why it cannot go on; then ElasticMQ has ended and the listeners are
// closed.
func (s *Server) Serve(ctx context.Context, listeners []net.Listener) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	cmd := exec.CommandContext(running, s.Java, s.args(port)...)
	cmd.Stdout, cmd.Stderr = s.Out, s.Out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start Java: %w", err)
	}

	var work sync.WaitGroup
	work.Go(func() {
		if err := cmd.Wait(); err != nil {
			stop(fmt.Errorf("ElasticMQ ended: %w", err))
		}
		stop(errors.New("ElasticMQ ended"))
	})
	b := &backend{address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), listens: make(chan struct{})}
	work.Go(func() { b.await(running) })
	for _, l := range listeners {
		context.AfterFunc(running, func() { _ = l.Close() })
		work.Go(func() {
			for {
				client, err := l.Accept()
				if err != nil {
					stop(err)
					return
				}
				work.Go(func() { b.lead(running, client) })
			}
		})
	}
	<-running.Done()
	work.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(running)
}

// backend is the ElasticMQ that clients are led to.
type backend struct {
	address string
	listens chan struct{} // closed when it listens
}

// await closes listens when ElasticMQ does, unless the context ends before.
func (b *backend) await(ctx context.Context) {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		if conn, err := net.Dial("tcp", b.address); err == nil {
			_ = conn.Close()
			close(b.listens)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// lead joins a client's connection with one to ElasticMQ, until both sides are
// done or the context ends.
func (b *backend) lead(ctx context.Context, client net.Conn) {
	defer client.Close()
	defer context.AfterFunc(ctx, func() { _ = client.Close() })()
	select {
	case <-ctx.Done():
		return
	case <-b.listens:
	}
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", b.address)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()

	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		both.Go(func() {
			_, _ = io.Copy(way[1], way[0])
			if half, ok := way[1].(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		})
	}
	both.Wait()
}

// freePort finds a port of the loopback interface that nobody has.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a port for ElasticMQ: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
