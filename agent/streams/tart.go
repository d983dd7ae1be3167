package streams

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// What Tart asks for is gRPC (github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)
// without TLS: /Agent/Exec and /Agent/ResolveIP, of no package.

// Codes of gRPC's status.
const (
	codeOK              = 0
	codeInvalidArgument = 3
	codeUnimplemented   = 12
	codeUnavailable     = 14
)

// fault is one with gRPC's code.
type fault struct {
	code    int
	message string
}

func (s fault) Error() string { return s.message }

// maxMessage bounds a message of Tart's, in bytes: gRPC's own default.
const maxMessage = 4 << 20

// oneConn is a listener of one connection, which Accept returns once.
type oneConn struct {
	conn   net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	if conn := l.conn; conn != nil {
		l.conn = nil
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{} }

// serveTart answers Tart on one connection, until that ends.
func (s *Server) serveTart(ctx context.Context, conn net.Conn) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /Agent/Exec", s.rpc(s.exec))
	mux.HandleFunc("POST /Agent/ResolveIP", s.rpc(resolveIP))
	mux.HandleFunc("/", s.rpc(func(context.Context, *call) error { return fault{codeUnimplemented, "there is no such method"} }))

	l := &oneConn{conn: conn, closed: make(chan struct{})}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler: mux, Protocols: protocols, BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				_ = l.Close()
			}
		},
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
		s.Log.Warn("Tart is not answered any more", "err", err)
	}
	_ = conn.Close()
}

// call is one call of Tart's. Messages are read by one goroutine and may be sent
// by several.
type call struct {
	r   io.Reader
	mu  sync.Mutex
	w   http.ResponseWriter
	out *http.ResponseController
}

// rpc is a method, as a handler.
func (s *Server) rpc(method func(context.Context, *call) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		w.WriteHeader(http.StatusOK)
		err := method(r.Context(), &call{r: r.Body, w: w, out: http.NewResponseController(w)})

		answer := fault{code: codeOK}
		if err != nil && !errors.As(err, &answer) {
			answer = fault{codeUnavailable, err.Error()}
		}
		if answer.code != codeOK {
			s.Log.Debug("a call of Tart's failed", "path", r.URL.Path, "err", answer.message)
		}
		w.Header().Set("Grpc-Status", strconv.Itoa(answer.code))
		if answer.message != "" {
			w.Header().Set("Grpc-Message", url.PathEscape(answer.message))
		}
	}
}

// receive reads the next message.
func (c *call) receive() ([]byte, error) {
	var head [5]byte // a flag of compression, the length
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if head[0] != 0 || length > maxMessage {
		return nil, fault{codeInvalidArgument, fmt.Sprintf("a message of %d bytes, or a compressed one", length)}
	}
	b := make([]byte, length)
	_, err := io.ReadFull(c.r, b)
	return b, err
}

// send sends a message.
func (c *call) send(message []byte) error {
	b := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.w.Write(append(b, message...)); err != nil {
		return err
	}
	return c.out.Flush()
}

// resolveIP answers the IPv4 address of the default route: a message with it in
// field 1.
func resolveIP(_ context.Context, c *call) error {
	if _, err := c.receive(); err != nil {
		return fault{codeInvalidArgument, err.Error()}
	}
	// The kernel chooses the address by the route; nothing is sent (RFC 5737 has
	// the address for documentation).
	conn, err := net.Dial("udp4", "192.0.2.1:9")
	if err != nil {
		return fault{codeUnavailable, "there is no default route yet"}
	}
	defer conn.Close()
	ip := conn.LocalAddr().(*net.UDPAddr).IP.String()
	return c.send(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), ip))
}

// fields are a protobuf message, taken apart: numbers, and what has a length, by
// the number of the field in the order in which they came.
type fields struct {
	numbers map[protowire.Number]uint64
	bytes   map[protowire.Number][][]byte
}

func parseFields(b []byte) (fields, error) {
	f := fields{map[protowire.Number]uint64{}, map[protowire.Number][][]byte{}}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return f, protowire.ParseError(n)
		}
		b = b[n:]

		switch kind {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return f, protowire.ParseError(n)
			}
			f.numbers[number], b = v, b[n:]
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return f, protowire.ParseError(n)
			}
			f.bytes[number], b = append(f.bytes[number], v), b[n:]
		default:
			n := protowire.ConsumeFieldValue(number, kind, b)
			if n < 0 {
				return f, protowire.ParseError(n)
			}
			b = b[n:]
		}
	}
	return f, nil
}

// text is a field's last value, as protobuf has it of one that is not repeated.
func (f fields) text(number protowire.Number) string {
	if all := f.bytes[number]; len(all) > 0 {
		return string(all[len(all)-1])
	}
	return ""
}

func (f fields) texts(number protowire.Number) []string {
	var list []string
	for _, b := range f.bytes[number] {
		list = append(list, string(b))
	}
	return list
}
