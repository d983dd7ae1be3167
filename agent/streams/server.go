// Package streams is the guest's end of what a hypervisor's host opens over
// vsock: the channel, ports of the guest, and what Tart itself asks for, a
// command and an address ([guest.Stream]).
//
// It is a process of its own, "rockpool-agent streams" behind a virtio device,
// as the user admin: Tart runs commands as that user, who may do everything
// here, while the agent may nothing. It answers the host alone, whose vsock
// address no other has, owns no state, and can be ended at any time. The channel
// is passed on to the agent's socket.
//
// The package imports guest.
package streams

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// maxStreams is how many streams may be open at a time.
const maxStreams = 1024

// Server serves streams. All fields must be set.
type Server struct {
	Host    func(peer net.Addr) bool // whether a peer is the host
	Channel string                   // the agent's socket for the channel
	Home    string                   // where commands run that say no other directory
	Log     *slog.Logger
}

// Serve serves at l until that is closed, and ends when no stream is open.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var open sync.WaitGroup
	defer open.Wait()
	defer cancel()
	room := make(chan struct{}, maxStreams)
	for {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("streams: %w", err)
		case !s.Host(conn.RemoteAddr()):
			s.Log.Warn("a stream that the host did not open is refused", "peer", conn.RemoteAddr())
			_ = conn.Close()
			continue
		}

		select {
		case room <- struct{}{}:
		default:
			s.Log.Warn("a stream is refused: too many are open", "limit", maxStreams)
			_ = conn.Close()
			continue
		}
		open.Go(func() {
			defer func() { <-room }()
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			s.serve(ctx, conn)
		})
	}
}

// serve serves one stream, by its first bytes.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(guest.StreamTime))
	r := bufio.NewReaderSize(conn, 64<<10)
	const known = 4 // bytes that tell HTTP/2 from everything of ours
	first, err := r.Peek(known)
	if err != nil {
		return // nobody wants to speak; Tart opens connections to see that it can
	}
	if string(first) == guest.HTTP2Preface[:known] {
		_ = conn.SetDeadline(time.Time{})
		s.serveTart(ctx, bufferedConn{conn, r})
		return
	}

	stream, err := guest.AcceptStream(r)
	if err != nil {
		s.Log.Warn("a stream is not understood", "err", err)
		_ = guest.AnswerStream(conn, err)
		return
	}
	to, err := s.dial(ctx, stream)
	if answered := guest.AnswerStream(conn, err); err != nil || answered != nil {
		s.Log.Debug("a stream is not joined", "stream", stream, "err", errors.Join(err, answered))
		return
	}
	defer to.Close()
	_ = conn.SetDeadline(time.Time{})
	if stream.Port == 0 {
		joinRaw(bufferedConn{conn, r}, to)
		return
	}
	join(guest.FramedReader(conn, r), to.(*net.TCPConn))
}

// dial connects to what a stream is for.
func (s *Server) dial(ctx context.Context, stream guest.Stream) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, guest.StreamTime/2)
	defer cancel()
	var d net.Dialer
	if stream.Port == 0 {
		return d.DialContext(ctx, "unix", s.Channel)
	}
	if !slices.Contains(guest.StreamPorts(), stream.Port) {
		return nil, fmt.Errorf("port %d is none that the host forwards", stream.Port)
	}
	return d.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(stream.Port)))
}

// bufferedConn is a connection of which some has been read.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c bufferedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// joinRaw copies both ways until either side ends.
func joinRaw(host, to net.Conn) {
	var copies sync.WaitGroup
	for _, way := range [][2]net.Conn{{host, to}, {to, host}} {
		copies.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_, _ = host.Close(), to.Close()
		})
	}
	copies.Wait()
}

// join copies both ways until both directions are over. What one side ends is
// ended at the other; a side that breaks breaks the other.
func join(host *guest.FramedConn, port *net.TCPConn) {
	breakBoth := func() {
		_ = port.SetLinger(0)
		_, _ = host.Close(), port.Close()
	}
	var copies sync.WaitGroup
	copies.Go(func() {
		if _, err := io.Copy(port, host); err != nil || port.CloseWrite() != nil {
			breakBoth()
		}
	})
	copies.Go(func() {
		if _, err := io.Copy(host, port); err != nil || host.CloseWrite() != nil {
			breakBoth()
		}
	})
	copies.Wait()
}
