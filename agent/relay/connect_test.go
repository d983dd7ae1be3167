package relay

import (
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestJoint_gone: a client that is gone ends what was joined, whatever the
// application does; one that has only ended what it sends is answered.
func TestJoint_gone(t *testing.T) {
	for name, tt := range map[string]struct {
		send int  // bytes of the client, of which the application reads none
		gone bool // the client is gone
	}{
		"a silent application":            {send: 1, gone: true},
		"one that does not read":          {send: 64 << 20, gone: true},
		"a client that waits for answers": {send: 1},
	} {
		t.Run(name, func(t *testing.T) {
			client, clientEnd := unixPair(t)
			app, appEnd := tcpPair(t)
			over := make(chan struct{})
			go func() {
				defer close(over)
				joint{clientEnd, appEnd, 10 * time.Millisecond, 50 * time.Millisecond}.join()
			}()

			_ = client.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			_, _ = client.Write(make([]byte, tt.send))
			if tt.gone {
				_ = client.Close()
				select {
				case <-over:
				case <-time.After(10 * time.Second):
					t.Fatal("what was joined is kept after the client's end")
				}
				return
			}

			if err := client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(app); err != nil {
				t.Fatal(err)
			}
			select {
			case <-over:
				t.Fatal("it ended while the client waits")
			case <-time.After(300 * time.Millisecond):
			}
			if _, err := io.WriteString(app, "answer"); err != nil {
				t.Fatal(err)
			}
			_ = app.Close()
			if b, err := io.ReadAll(client); err != nil || string(b) != "answer" {
				t.Errorf("the client reads %q, %v", b, err)
			}
			<-over
		})
	}
}

func unixPair(t *testing.T) (ours, theirs *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ours, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close() })
	if theirs, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func tcpPair(t *testing.T) (ours, theirs *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ours, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close() })
	if theirs, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}
