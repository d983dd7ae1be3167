package channel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/guest"
)

// host is the other end of a port that serves record.
func host(t *testing.T, record *agent.BootRecord, shutdown func(context.Context) error) (*bufio.Reader, net.Conn, func()) {
	t.Helper()
	ours, theirs := net.Pipe()
	opened := false
	p := &Port{
		Path: "port", Version: "1.2", Record: record, Shutdown: shutdown, Retry: time.Millisecond,
		Log: slog.New(slog.DiscardHandler),
		Open: func(string) (io.ReadWriteCloser, error) {
			if opened {
				return nil, os.ErrNotExist
			}
			opened = true
			return theirs, nil
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	return bufio.NewReader(ours), ours, func() { cancel(); <-done; _ = ours.Close() }
}

func expect(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	got, err := r.ReadString('\n')
	if err != nil || got != want+"\n" {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

func say(t *testing.T, w io.Writer, line string) {
	t.Helper()
	if _, err := io.WriteString(w, line+"\n"); err != nil {
		t.Fatal(err)
	}
}

func TestPort_Run(t *testing.T) {
	record := &agent.BootRecord{}
	record.Add(agent.BootEvent{Phase: guest.PhaseKernel, At: 1500 * time.Millisecond})
	stopped := 0
	r, w, stop := host(t, record, func(context.Context) error { stopped++; return errors.New("one is left") })
	defer stop()
	const kernel = `{"event":"phase","phase":"kernel","seconds":1.5}`
	const ready = `{"event":"ready","seconds":20,"version":"1.2"}`
	const failed = `{"event":"failed","unit":"a.service","message":"exit-code, status 1"}`
	expect(t, r, kernel)
	record.Add(agent.BootEvent{Ready: true, At: 20 * time.Second})
	expect(t, r, ready)
	record.Add(agent.BootEvent{Failed: agent.FailedUnit{Unit: "a.service", Message: "exit-code, status 1"}})
	expect(t, r, failed)
	for _, bad := range []string{"", "{", `{"request":"dance"}`, strings.Repeat("x", guest.MaxLine+10)} {
		say(t, w, bad)
	}
	say(t, w, `{"request":"status","later":1}`)
	expect(t, r, kernel)
	expect(t, r, ready)
	expect(t, r, failed)
	say(t, w, `{"request":"shutdown"}`)
	expect(t, r, `{"event":"stopping"}`)
	expect(t, r, `{"event":"stopped"}`)
	if stopped != 1 {
		t.Errorf("stopped %d times", stopped)
	}
}

func TestPort_Run_absent(t *testing.T) {
	for name, tt := range map[string]struct {
		appears time.Duration
		serves  bool
	}{
		"late":  {20 * time.Second, true},
		"never": {time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				served := false
				ctx, cancel := context.WithCancel(t.Context())
				p := &Port{
					Record: &agent.BootRecord{}, Retry: time.Second, Patience: time.Minute, Log: slog.New(slog.DiscardHandler),
					Open: func(string) (io.ReadWriteCloser, error) {
						if time.Since(start) < tt.appears {
							return nil, os.ErrNotExist
						}
						served = true
						cancel()
						return &eofPort{closed: make(chan struct{})}, nil
					},
				}
				p.Run(ctx)
				if served != tt.serves {
					t.Errorf("served: %v", served)
				}
				cancel()
			})
		})
	}
}

// eofPort reads as ended until somebody is there, like a virtio-serial port.
type eofPort struct {
	reads  int
	closed chan struct{}
}

func (p *eofPort) Read(b []byte) (int, error) {
	p.reads++
	if p.reads == 5 {
		return copy(b, `{"request":"shut`), nil
	}
	if p.reads == 7 {
		return copy(b, "down\"}\n"), nil
	}
	return 0, io.EOF
}
func (p *eofPort) Write(b []byte) (int, error) { return len(b), nil }
func (p *eofPort) Close() error                { close(p.closed); return nil }

func TestPort_Run_nobodyThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &eofPort{closed: make(chan struct{})}
		asked := make(chan struct{})
		p := &Port{
			Record: &agent.BootRecord{}, Retry: time.Second, Log: slog.New(slog.DiscardHandler),
			Shutdown: func(context.Context) error { close(asked); return nil },
			Open:     func(string) (io.ReadWriteCloser, error) { return f, nil },
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); p.Run(ctx) }()
		<-asked
		cancel()
		<-done
		<-f.closed
		if f.reads > 9 {
			t.Errorf("%d reads: it spins", f.reads)
		}
	})
}

// TestPort_Networks: a list is passed on, and one that is not valid is not.
func TestPort_Networks(t *testing.T) {
	told := make(chan string, 8)
	record := &agent.BootRecord{}
	record.Add(agent.BootEvent{Phase: guest.PhaseKernel, At: time.Second})
	ours, theirs := net.Pipe()
	p := &Port{
		Record: record, Retry: time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Networks: func(list []netip.Prefix) { told <- fmt.Sprint(list) },
	}
	go p.serve(t.Context(), theirs)
	defer ours.Close()
	r := bufio.NewReader(ours)
	expect(t, r, `{"event":"phase","phase":"kernel","seconds":1}`)
	for _, line := range []string{
		`{"request":"networks","hostNetworks":["0.0.0.0/0"]}`,
		`{"request":"networks","hostNetworks":"203.0.113.0/24"}`,
		`{"request":"networks","hostNetworks":["203.0.113.0/24","2001:db8::/64"]}`,
		`{"request":"networks"}`,
	} {
		say(t, ours, line)
	}
	for _, want := range []string{"[203.0.113.0/24 2001:db8::/64]", "[]"} {
		if got := <-told; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	}
}

// TestPort_Clock: the guest asks for the time after a jump and passes on what it
// is told at once. What has waited in the channel, what nobody asked for and what
// is no time is not passed on.
func TestPort_Clock(t *testing.T) {
	synctest.Test(t, testPortClock)
}

func testPortClock(t *testing.T) {
	told := make(chan time.Time, 8)
	record := &agent.BootRecord{}
	record.Add(agent.BootEvent{Phase: guest.PhaseKernel, At: time.Second})
	ours, theirs := net.Pipe()
	p := &Port{
		Record: record, Retry: time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Clock: func(host time.Time) { told <- host },
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go p.serve(ctx, theirs)
	defer ours.Close()
	r := bufio.NewReader(ours)
	expect(t, r, `{"event":"phase","phase":"kernel","seconds":1}`)

	const asks = `{"event":"clock"}`
	say(t, ours, `{"request":"clock","hostClock":1795867100000000000}`) // nobody asked
	expect(t, r, asks)
	time.Sleep(guest.ClockFresh)                                        // the host sleeps, or this side does
	say(t, ours, `{"request":"clock","hostClock":1795867100000000000}`) // waited
	expect(t, r, asks)
	for _, line := range []string{
		`{"request":"clock","hostClock":-1}`,
		`{"request":"clock","hostClock":"1795867200000000000"}`,
		`{"request":"clock","hostClock":1795867200000000000}`,
	} {
		say(t, ours, line)
	}
	synctest.Wait()
	if len(told) != 1 || (<-told).UnixNano() != 1795867200000000000 {
		t.Errorf("the fresh time is not told, or another is, too")
	}

	say(t, ours, `{"request":"clock"}`)
	expect(t, r, asks)
	say(t, ours, `{"request":"clock","hostClock":1795867200000000000}`)
	say(t, ours, `{"request":"clock","hostClock":1795867100000000000}`) // an old one behind it
	expect(t, r, asks)
	synctest.Wait()
	if len(told) != 1 {
		t.Errorf("told %d times", len(told))
	}
}

func FuzzDecodeCall(f *testing.F) {
	f.Add([]byte(`{"request":"status"}`))
	f.Add([]byte(`{"request":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		call, err := DecodeCall(b)
		if err == nil && call.Request != guest.RequestStatus && call.Request != guest.RequestShutdown && call.Request != guest.RequestNetworks && call.Request != guest.RequestClock && call.Request != guest.RequestFiles {
			t.Errorf("%q is %q", b, call.Request)
		}
	})
}

// TestPort_ServeConnections: each connection is a channel of its own, which ends
// when the host ends it.
func TestPort_ServeConnections(t *testing.T) {
	record := &agent.BootRecord{}
	record.Add(agent.BootEvent{Ready: true, At: 20 * time.Second})
	p := &Port{Version: "1.2", Record: record, Retry: time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	l, err := net.Listen("unix", t.TempDir()+"/channel.sock")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.ServeConnections(ctx, l) }()

	const ready = `{"event":"ready","seconds":20,"version":"1.2"}`
	for range 2 {
		conn, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		expect(t, r, ready)
		say(t, conn, `{"request":"status"}`)
		expect(t, r, ready)
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
			t.Errorf("after the end: %q, %v", rest, err)
		}
		conn.Close()
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// toldDisk is a disk that a test changes; the zero value is not known.
type toldDisk struct {
	report atomic.Pointer[guest.DiskReport]
}

func (d *toldDisk) Report(context.Context) (guest.DiskReport, bool) {
	if r := d.report.Load(); r != nil {
		return *r, true
	}
	return guest.DiskReport{}, false
}

// TestPort_Disk: the host is told who takes what of the disk as soon as that is
// known, when it changes, and when it asks; and not over and over.
func TestPort_Disk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &toldDisk{}
		ours, theirs := net.Pipe()
		p := &Port{Record: &agent.BootRecord{}, Retry: time.Millisecond, Log: slog.New(slog.DiscardHandler), Disk: disk}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); p.serve(ctx, theirs) }()
		r := bufio.NewReader(ours)
		time.Sleep(time.Hour)
		disk.report.Store(&guest.DiskReport{Size: 9, Free: 4, Workspaces: []guest.WorkspaceDisk{{Name: "one", Used: 2, Limit: 3}}})
		const first = `{"event":"disk","disk":{"size":9,"free":4,"images":0,"rest":0,"workspaces":[{"name":"one","used":2,"limit":3}]}}`
		expect(t, r, first)
		time.Sleep(time.Hour) // nothing changes
		say(t, ours, `{"request":"status"}`)
		expect(t, r, first)
		disk.report.Store(&guest.DiskReport{Size: 9, Free: 1})
		expect(t, r, `{"event":"disk","disk":{"size":9,"free":1,"images":0,"rest":0,"workspaces":null}}`)
		cancel()
		<-done
		ours.Close()
	})
}

// takenFiles notes what it is told.
type takenFiles chan guest.FileBatch

func (f takenFiles) Take(b guest.FileBatch, say func(guest.FileAnswer)) {
	f <- b
	say(guest.FileAnswer{Epoch: b.Epoch, Greeting: true})
}

// TestPort_Files: the host is asked for a greeting at first, and what is not
// valid is not passed on.
func TestPort_Files(t *testing.T) {
	files := make(takenFiles, 4)
	ours, theirs := net.Pipe()
	p := &Port{Record: &agent.BootRecord{}, Retry: time.Millisecond, Log: slog.New(slog.DiscardHandler), Files: files}
	go p.serve(t.Context(), theirs)
	defer ours.Close()
	r := bufio.NewReader(ours)
	expect(t, r, `{"event":"files","files":{}}`)
	for _, line := range []string{
		`{"request":"files"}`,
		`{"request":"files","files":{"epoch":"a","changes":[{"op":"modified","path":"/etc/passwd"}]}}`,
		`{"request":"files","files":{"epoch":"a"}}`,
	} {
		say(t, ours, line)
	}
	expect(t, r, `{"event":"files","files":{"epoch":"a","greeting":true}}`)
	if b := <-files; b.Epoch != "a" || len(files) > 0 {
		t.Errorf("%+v and %d more", b, len(files))
	}
}
