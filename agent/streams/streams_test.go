package streams

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/vsock"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/rockpool/rootvm/guest"
)

// serve serves streams at a socket in place of Tart's, and returns what dials it.
func serve(t *testing.T, change func(*Server)) func(context.Context) net.Conn {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Host: func(net.Addr) bool { return true }, Channel: filepath.Join(dir, "channel.sock"), Home: dir, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		l.Close()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Error("it does not end: a stream is open still")
		}
	})
	return func(ctx context.Context) net.Conn {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			t.Error(err)
		}
		return conn
	}
}

// serveAgent plays the agent's end of the channel.
func serveAgent(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
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
			go func() {
				io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
}

func TestServer_Channel(t *testing.T) {
	var channel string
	dial := serve(t, func(s *Server) { channel = s.Channel })
	if _, err := guest.OpenStream(t.Context(), dial(t.Context()), guest.Stream{}); !guest.StreamRefused(err) {
		t.Errorf("without an agent: %v", err)
	}
	serveAgent(t, channel)
	conn, err := guest.OpenStream(t.Context(), dial(t.Context()), guest.Stream{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, `{"request":"status"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 21)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != `{"request":"status"}`+"\n" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestServer_Forward: a port that the host forwards is reached, both directions
// ending by themselves; another, or one at which nobody listens, is refused.
func TestServer_Forward(t *testing.T) {
	dial := serve(t, nil)
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", guest.PortPreview))
	if err != nil {
		t.Skipf("port %d is taken here: %v", guest.PortPreview, err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				b, _ := io.ReadAll(conn)
				fmt.Fprintf(conn, "%d bytes", len(b))
				conn.Close()
			}()
		}
	}()
	open := func() (net.Conn, error) {
		return guest.OpenStream(t.Context(), dial(t.Context()), guest.Stream{Port: guest.PortPreview})
	}
	conn, err := open()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn.Write(bytes.Repeat([]byte("x"), 300_000))
		conn.(*guest.FramedConn).CloseWrite()
	}()
	if b, err := io.ReadAll(conn); string(b) != "300000 bytes" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	conn.Close()

	l.Close()
	if _, err := open(); !guest.StreamRefused(err) {
		t.Errorf("nobody listens: %v", err)
	}
	if _, err := guest.OpenStream(t.Context(), dial(t.Context()), guest.Stream{Port: 9324}); !guest.StreamRefused(err) || !strings.Contains(err.Error(), "none that the host forwards") {
		t.Errorf("a port of the guest's own: %v", err)
	}
}

// TestServer_Unknown: what is neither ours nor Tart's is answered, or ended.
func TestServer_Unknown(t *testing.T) {
	dial := serve(t, nil)
	conn := dial(t.Context())
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\n")
	if b, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(b), "error ") {
		t.Errorf("%q, %v", b, err)
	}
	quiet := dial(t.Context()) // as Tart looks whether somebody listens
	quiet.Close()
}

// TestServer_NotTheHost: another peer gets nothing.
func TestServer_NotTheHost(t *testing.T) {
	dial := serve(t, func(s *Server) { s.Host = FromHost })
	conn := dial(t.Context()) // its address is no vsock's
	defer conn.Close()
	if b, err := io.ReadAll(conn); len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
	for cid, want := range map[uint32]bool{0: false, 1: false, 2: true, 3: false} {
		if got := FromHost(&vsock.Addr{ContextID: cid, Port: 1}); got != want {
			t.Errorf("peer %d: %t", cid, got)
		}
	}
}

// TestServer_Loopback speaks over vsock itself, where the kernel has its
// loopback. That is a peer within the machine, which is not the host.
func TestServer_Loopback(t *testing.T) {
	const loopback = 1 // VMADDR_CID_LOCAL
	l, err := vsock.ListenContextID(loopback, 18080, nil)
	if err != nil {
		t.Skipf("no loopback of vsock here: %v", err)
	}
	defer l.Close()
	dialed := make(chan error, 1)
	go func() {
		conn, err := vsock.Dial(loopback, 18080, nil)
		if err == nil {
			_, err = guest.OpenStream(t.Context(), conn, guest.Stream{})
		}
		dialed <- err
		l.Close()
	}()
	s := &Server{Host: FromHost, Log: slog.New(slog.DiscardHandler)}
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context(), l) }()
	select {
	case err := <-dialed:
		if err == nil || guest.StreamRefused(err) {
			t.Errorf("a peer within the machine is answered: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Skip("no loopback of vsock here: nobody answers")
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// raw is a codec of gRPC's that leaves messages as they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (raw) Unmarshal(b []byte, v any) error { *v.(*[]byte) = slices.Clone(b); return nil }
func (raw) Name() string                    { return "proto" }

// tart is a client as Tart is one, of gRPC's own library.
func tart(t *testing.T) *grpc.ClientConn {
	t.Helper()
	dial := serve(t, nil)
	client, err := grpc.NewClient("passthrough:///tart", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx), nil }),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func text(field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, field, protowire.BytesType), s)
}

func number(field protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.VarintType), n)
}

func message(field protowire.Number, parts ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), slices.Concat(parts...))
}

// result is what a command said and ended with.
type result struct {
	out, errs string
	code      int
	err       error
}

// run runs a command as Tart does: the command, then the input.
func run(t *testing.T, client *grpc.ClientConn, command []byte, input ...[]byte) (r result) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := client.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/Agent/Exec")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range append([][]byte{command}, input...) {
		if err := stream.SendMsg(&b); err != nil {
			t.Fatal(err)
		}
	}
	r.code = -1
	for {
		var b []byte
		if err := stream.RecvMsg(&b); errors.Is(err, io.EOF) {
			return r
		} else if err != nil {
			r.err = err
			return r
		}
		f, err := parseFields(b)
		if err != nil {
			t.Fatal(err)
		}
		for field, to := range map[protowire.Number]*string{responseOutput: &r.out, responseErrors: &r.errs} {
			for _, chunk := range f.bytes[field] {
				piece, err := parseFields(chunk)
				if err != nil {
					t.Fatal(err)
				}
				*to += piece.text(1)
			}
		}
		for _, exit := range f.bytes[responseExit] {
			code, err := parseFields(exit)
			if err != nil {
				t.Fatal(err)
			}
			r.code = int(code.numbers[1])
		}
	}
}

func shell(line string, more ...[]byte) []byte {
	return message(requestCommand, append([][]byte{text(1, "sh"), text(2, "-c"), text(2, line)}, more...)...)
}

func TestServer_Exec(t *testing.T) {
	client := tart(t)
	stdin := func(s string) []byte { return message(requestInput, text(1, s)) }
	endOfStdin := message(requestInput)
	interactive, terminal := number(3, 1), number(4, 1)
	size := func(field protowire.Number, rows, cols uint64) []byte {
		return message(field, number(1, rows), number(2, cols))
	}
	for name, c := range map[string]struct {
		command []byte
		input   [][]byte
		want    result
	}{
		"output":           {shell("echo out; echo err >&2; exit 3"), nil, result{"out\n", "err\n", 3, nil}},
		"input":            {shell("cat; echo end", interactive), [][]byte{stdin("one "), stdin("two\n"), endOfStdin}, result{"one two\nend\n", "", 0, nil}},
		"input not read":   {shell("exit 0", interactive), [][]byte{stdin("one")}, result{"", "", 0, nil}},
		"environment":      {shell("echo $A-$B", message(7, text(1, "A"), text(2, "map")), text(7, "B=text")), nil, result{"map-text\n", "", 0, nil}},
		"directory":        {shell("pwd", text(8, "/")), nil, result{"/\n", "", 0, nil}},
		"terminal":         {shell("test -t 0 && test -t 1 && stty size", terminal, size(5, 31, 97)), nil, result{"31 97\r\n", "", 0, nil}},
		"terminal's input": {shell("stty -echo; echo ready; read line; echo got $line; stty size", terminal, interactive), [][]byte{size(requestSize, 11, 12), stdin("x\n")}, result{"", "", 0, nil}},
		"signal":           {shell("kill -9 $$"), nil, result{"", "", 137, nil}},
		"not found":        {message(requestCommand, text(1, "no-such-program")), nil, result{"", "", 127, nil}},
		"left running":     {shell("sleep 60 & echo started"), nil, result{"started\n", "", 0, nil}},
		"detached":         {shell("sleep 0.1", number(6, 1)), nil, result{"", "", 0, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, client, c.command, c.input...)
			if name == "terminal's input" { // the echo may come before it is off
				if !strings.Contains(got.out, "got x\r\n11 12\r\n") || got.code != 0 {
					t.Errorf("got %+v", got)
				}
				return
			}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestServer_Exec_Faults(t *testing.T) {
	client := tart(t)
	for name, b := range map[string][]byte{"nothing": {}, "no command": message(requestInput, text(1, "x")), "no name": message(requestCommand), "not protobuf": {0xff}} {
		if got := run(t, client, b); status.Code(got.err) != codes.InvalidArgument {
			t.Errorf("%s: %+v", name, got)
		}
	}
	var answer []byte
	if err := client.Invoke(t.Context(), "/Agent/Other", &[]byte{}, &answer); status.Code(err) != codes.Unimplemented {
		t.Errorf("another method: %v", err)
	}
}

// TestServer_Exec_Gone: what was started ends when Tart goes away.
func TestServer_Exec_Gone(t *testing.T) {
	client := tart(t)
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/Agent/Exec")
	if err != nil {
		t.Fatal(err)
	}
	b := shell("echo $$ >" + file + "; exec sleep 600")
	if err := stream.SendMsg(&b); err != nil {
		t.Fatal(err)
	}
	pid := ""
	for end := time.Now().Add(time.Minute); !strings.HasSuffix(pid, "\n"); time.Sleep(10 * time.Millisecond) {
		if b, _ := os.ReadFile(file); len(b) > 0 {
			pid = string(b)
		}
		if time.Now().After(end) {
			t.Fatal("it does not start")
		}
	}
	cancel()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat("/proc/" + strings.TrimSpace(pid)); errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(end) {
			t.Fatal("it goes on")
		}
	}
}

func TestServer_ResolveIP(t *testing.T) {
	client := tart(t)
	var answer []byte
	err := client.Invoke(t.Context(), "/Agent/ResolveIP", &[]byte{}, &answer)
	if status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "no default route") {
		t.Skip("this host has no default route")
	}
	f, parsed := parseFields(answer)
	if err != nil || parsed != nil || net.ParseIP(f.text(1)).To4() == nil {
		t.Errorf("%q, %v, %v", answer, err, parsed)
	}
}

func FuzzParseCommand(f *testing.F) {
	f.Add(slices.Concat(text(1, "sh"), text(2, "-c"), number(3, 1), message(5, number(1, 24), number(2, 80)), message(7, text(1, "A"), text(2, "b"))))
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCommand(b)
		if err == nil && c.name == "" {
			t.Error("a command without a name")
		}
	})
}

func TestPresent(t *testing.T) {
	root := t.TempDir()
	if Present(root) {
		t.Error("a machine without devices has one")
	}
	dir := filepath.Join(root, "sys/bus/virtio/devices/virtio3")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "device"), []byte("0x0013\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if !Present(root) {
		t.Error("the device is not seen")
	}
}
