package guest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

func TestParseStream(t *testing.T) {
	for _, s := range []Stream{{}, {Port: 22}, {Port: 65535}} {
		if got, err := ParseStream(s.String() + "\n"); err != nil || got != s {
			t.Errorf("%q is %+v, %v", s, got, err)
		}
	}
	for _, line := range []string{"", "channel", "rockpool/2 channel", "rockpool/1 forward", "rockpool/1 forward 0", "rockpool/1 forward 65536", "rockpool/1 forward -1", "rockpool/1 forward 22 ", HTTP2Preface} {
		if s, err := ParseStream(line); err == nil {
			t.Errorf("%q is %+v", line, s)
		}
	}
}

// streamPair is a stream to a guest that answers with refused.
func streamPair(t *testing.T, s Stream, refused error) (host net.Conn, guest *FramedConn, err error) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	accepted := make(chan *FramedConn, 1)
	go func() {
		r := bufio.NewReader(b)
		if got, err := AcceptStream(r); err != nil || got != s {
			t.Errorf("accepted %+v, %v; want %+v", got, err, s)
		}
		if err := AnswerStream(b, refused); err != nil {
			t.Error(err)
		}
		accepted <- FramedReader(b, r)
	}()
	host, err = OpenStream(t.Context(), a, s)
	return host, <-accepted, err
}

// TestFramedConn: each direction ends by itself, and what is larger than a frame
// arrives whole.
func TestFramedConn(t *testing.T) {
	host, guest, err := streamPair(t, Stream{Port: 22}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789"), 20_000)
	got := make(chan []byte, 1)
	go func() {
		b, err := io.ReadAll(guest)
		if err != nil {
			t.Errorf("the guest reads: %v", err)
		}
		guest.Write([]byte("answer after the end"))
		guest.CloseWrite()
		got <- b
	}()
	if n, err := host.Write(sent); n != len(sent) || err != nil {
		t.Fatal(n, err)
	}
	if err := host.(*FramedConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Write([]byte("x")); err == nil {
		t.Error("written after the end")
	}
	if b, err := io.ReadAll(host); string(b) != "answer after the end" || err != nil {
		t.Errorf("answer %q, %v", b, err)
	}
	if b := <-got; !bytes.Equal(b, sent) {
		t.Errorf("%d bytes arrived, %d were sent", len(b), len(sent))
	}
}

// TestFramedConn_Broken: a stream that ends without its last frame is no whole
// answer.
func TestFramedConn_Broken(t *testing.T) {
	host, guest, err := streamPair(t, Stream{Port: 22}, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		guest.Write([]byte("half"))
		guest.Close()
	}()
	if b, err := io.ReadAll(host); string(b) != "half" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v", b, err)
	}
}

func TestOpenStream_Refused(t *testing.T) {
	_, _, err := streamPair(t, Stream{Port: 22}, errors.New("nobody\nlistens"))
	if !StreamRefused(err) || !strings.Contains(err.Error(), "nobody listens") {
		t.Error(err)
	}

	a, b := net.Pipe()
	go func() {
		bufio.NewReader(b).ReadString('\n')
		b.Close()
	}()
	if _, err := OpenStream(t.Context(), a, Stream{Port: 22}); err == nil || StreamRefused(err) {
		t.Errorf("a guest that is not there: %v", err)
	}
}
