package oneline_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent/oneline"
)

// serve answers one request at a socket.
func serve(t *testing.T, answer func(request string, out io.Writer)) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		request, _ := bufio.NewReader(c).ReadString('\n')
		answer(request, c)
	}()
	return socket
}

// TestAsk: the value comes back as it was given, and a fault as one line that the
// answer has room for.
func TestAsk(t *testing.T) {
	for name, tt := range map[string]struct {
		value string
		err   error
		want  string // the error
	}{
		"a value":      {value: "ok"},
		"nothing":      {},
		"a fault":      {err: errors.New("nft: no\n  such\tfile\n"), want: "nft: no such file"},
		"a long fault": {err: errors.New(strings.Repeat("x", 5000)), want: strings.Repeat("x", 1023-len("error: "))},
		"fault, value": {value: "ok", err: errors.New("no"), want: "no"},
	} {
		t.Run(name, func(t *testing.T) {
			returned := make(chan error, 1)
			socket := serve(t, func(request string, out io.Writer) {
				if request != "please\n" {
					t.Errorf("asked %q", request)
				}
				returned <- oneline.Answer(out, tt.value, tt.err)
			})
			value, err := oneline.Ask(t.Context(), socket, "please\n")
			if tt.err == nil && (err != nil || value != tt.value) {
				t.Errorf("%q, %v", value, err)
			}
			if tt.err != nil && (err == nil || err.Error() != tt.want || value != "") {
				t.Errorf("%q, %v", value, err)
			}
			if got := <-returned; !errors.Is(got, tt.err) {
				t.Errorf("root's program ends with %v", got)
			}
		})
	}
}

// TestAsk_silent: a program that says nothing, or not all of a line, is a fault,
// and one that hangs is given up.
func TestAsk_silent(t *testing.T) {
	for name, said := range map[string]string{"nothing": "", "half a line": "ok", "too much": strings.Repeat("x", 4096)} {
		socket := serve(t, func(_ string, out io.Writer) { _, _ = io.WriteString(out, said) })
		if value, err := oneline.Ask(t.Context(), socket, "please\n"); err == nil {
			t.Errorf("%s: %q", name, value)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	socket := serve(t, func(string, io.Writer) { <-t.Context().Done() })
	if _, err := oneline.Ask(ctx, socket, "please\n"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of one that hangs: %v", err)
	}
	if _, err := oneline.Ask(t.Context(), socket+"-none", "please\n"); err == nil {
		t.Error("nobody answers, and it is no fault")
	}
}
