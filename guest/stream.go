package guest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Where a hypervisor has no virtio-serial ports and forwards no ports, the host
// reaches the guest by streams: connections to a vsock port of the guest, which
// Tart offers as the socket control.sock. The host's first line says what a
// stream is for, the guest's first line whether it can be had:
//
//	rockpool/1 channel        the channel to the host, as on the virtio-serial port
//	rockpool/1 forward 22     a TCP port of the guest, in frames ([Framed])
//
//	ok
//	error PORT IS CLOSED      and the end
//
// Tart's own connections to the same port are HTTP/2, whose preface begins with
// other bytes ([HTTP2Preface]).
const (
	// StreamPort is the vsock port, which Tart decides.
	StreamPort = 8080
	// HostCID is the host's address on vsock (VMADDR_CID_HOST): the only peer
	// that the guest answers.
	HostCID = 2

	streamVersion = "rockpool/1 "
	streamOK      = "ok"
	streamError   = "error "
	// maxStreamLine bounds the first line of either side.
	maxStreamLine = 512

	// HTTP2Preface is how a connection of HTTP/2 begins (RFC 9113, 3.4).
	HTTP2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// Stream is what a stream is for.
type Stream struct {
	Port int // of the guest, to be forwarded; 0 is the channel
}

// StreamPorts are the ports of the guest that streams lead to.
func StreamPorts() []int { return []int{PortSSH, PortDashboard, PortIDE, PortPreview} }

// String is the stream's first line.
func (s Stream) String() string {
	if s.Port == 0 {
		return streamVersion + "channel"
	}
	return streamVersion + "forward " + strconv.Itoa(s.Port)
}

// ParseStream reads a stream's first line.
func ParseStream(line string) (Stream, error) {
	what, known := strings.CutPrefix(strings.TrimSuffix(line, "\n"), streamVersion)
	if what == "channel" && known {
		return Stream{}, nil
	}
	number, forward := strings.CutPrefix(what, "forward ")
	port, err := strconv.Atoi(number)
	if !known || !forward || err != nil || port < 1 || port > 65535 {
		return Stream{}, fmt.Errorf("%.60q is no stream of this guest", line)
	}
	return Stream{Port: port}, nil
}

// errStreamRefused says that the guest answered, and that a stream cannot be had.
var errStreamRefused = errors.New("the guest refuses")

// StreamRefused reports whether err is the guest's word, and not that of a
// guest that cannot be reached.
func StreamRefused(err error) bool { return errors.Is(err, errStreamRefused) }

// OpenStream asks for a stream on a connection to the guest, and returns the
// connection as the stream. The connection is closed when there is an error.
func OpenStream(ctx context.Context, conn net.Conn, s Stream) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	opened, err := openStream(conn, s)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open the stream %q: %w", s, errors.Join(err, ctx.Err()))
	}
	return opened, nil
}

func openStream(conn net.Conn, s Stream) (net.Conn, error) {
	if _, err := io.WriteString(conn, s.String()+"\n"); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(conn, maxFrame)
	line, err := readStreamLine(r)
	if err != nil {
		return nil, err
	}
	if reason, refused := strings.CutPrefix(line, streamError); refused {
		return nil, fmt.Errorf("%w: %s", errStreamRefused, reason)
	}
	if line != streamOK {
		return nil, fmt.Errorf("the guest answers %.60q", line)
	}
	if s.Port == 0 {
		return bufferedConn{conn, r}, nil
	}
	return framed(conn, r), nil
}

// AcceptStream reads the first line of a connection from the host.
func AcceptStream(r *bufio.Reader) (Stream, error) {
	line, err := readStreamLine(r)
	if err != nil {
		return Stream{}, err
	}
	return ParseStream(line)
}

// AnswerStream tells the host whether it has its stream.
func AnswerStream(w io.Writer, refused error) error {
	line := streamOK
	if refused != nil {
		line = streamError + strings.Map(func(c rune) rune {
			if c < ' ' {
				return ' '
			}
			return c
		}, refused.Error())
		line = line[:min(len(line), maxStreamLine-1)]
	}
	_, err := io.WriteString(w, line+"\n")
	return err
}

func readStreamLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull) || len(line) > maxStreamLine:
		return "", fmt.Errorf("the first line of a stream is longer than %d bytes", maxStreamLine)
	case errors.Is(err, io.EOF):
		return "", io.ErrUnexpectedEOF
	case err != nil:
		return "", err
	}
	return string(line[:len(line)-1]), nil
}

// bufferedConn is a connection of which some has been read.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c bufferedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// maxFrame bounds the data of a frame.
const maxFrame = 1<<16 - 1

// FramedConn carries a TCP connection over a stream, whose proxies may know
// nothing of an end in one direction. Data goes in frames: its length in two
// bytes, the higher first, then as many bytes. A frame of 0 bytes is the end of
// one direction; a stream that ends without it is a connection that broke. Read
// and Write may be called from two goroutines.
type FramedConn struct {
	net.Conn
	r    *bufio.Reader
	left int  // of the frame that is being read
	over bool // the other side has ended its direction

	mu    sync.Mutex // guards what is written
	ended bool
}

// Framed is the framed end of a connection.
func Framed(conn net.Conn) *FramedConn { return framed(conn, bufio.NewReaderSize(conn, maxFrame)) }

// FramedReader is the framed end of a connection of which r has read some.
func FramedReader(conn net.Conn, r *bufio.Reader) *FramedConn { return framed(conn, r) }

func framed(conn net.Conn, r *bufio.Reader) *FramedConn { return &FramedConn{Conn: conn, r: r} }

// Read implements [net.Conn].
func (c *FramedConn) Read(b []byte) (int, error) {
	if c.over || len(b) == 0 {
		return 0, c.endOrNothing()
	}
	if c.left == 0 {
		var head [2]byte
		if _, err := io.ReadFull(c.r, head[:]); err != nil {
			return 0, broken(err)
		}
		if c.left = int(binary.BigEndian.Uint16(head[:])); c.left == 0 {
			c.over = true
			return 0, io.EOF
		}
	}

	n, err := c.r.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, broken(err)
}

func (c *FramedConn) endOrNothing() error {
	if c.over {
		return io.EOF
	}
	return nil
}

// broken makes an end that is not the end of a direction a fault.
func broken(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write implements [net.Conn].
func (c *FramedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return 0, net.ErrClosed
	}

	written := 0
	for len(b) > 0 {
		n := min(len(b), maxFrame)
		frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+n), uint16(n))
		if _, err := c.Conn.Write(append(frame, b[:n]...)); err != nil {
			return written, err
		}
		written, b = written+n, b[n:]
	}
	return written, nil
}

// CloseWrite ends what this side sends.
func (c *FramedConn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil
	}
	c.ended = true
	_, err := c.Conn.Write([]byte{0, 0})
	return err
}

// StreamTime is how long the first lines of a stream may take.
const StreamTime = 10 * time.Second
