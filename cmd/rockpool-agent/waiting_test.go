package main

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/client"
	"github.com/rockpool/rootvm/agent/sqlite"
)

// starting is a daemon that tries its database often.
type starting struct {
	place
	*daemonParts
	log, stderr buffer
	notified    <-chan string // what systemd is told
	ended       chan error
	stop        context.CancelFunc
}

// starting prepares a daemon, which begins with its method begin.
func (p place) starting(t *testing.T) *starting {
	t.Helper()
	s := &starting{place: p, notified: notifySocket(t, p.path("notify")), ended: make(chan error, 1)}
	d, err := newDaemon(p.options(t), streams{out: &s.log, err: &s.stderr})
	if err != nil {
		t.Fatal(err)
	}
	d.wait.pause = 5 * time.Millisecond
	d.open = func(ctx context.Context, path string) (*sqlite.DB, error) {
		return sqlite.OpenWithin(ctx, path, 20*time.Millisecond)
	}
	s.daemonParts = d
	return s
}

func (s *starting) begin(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s.stop = cancel
	go func() { s.ended <- s.serve(ctx) }()
}

// told waits until systemd is told something that begins so.
func (s *starting) told(t *testing.T, prefix string) string {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case m := <-s.notified:
			if strings.HasPrefix(m, prefix) {
				return m
			}
		case err := <-s.ended:
			t.Fatalf("serve ended before it told %q: %v", prefix, err)
		case <-limit:
			t.Fatalf("systemd is not told %q: %s%s", prefix, &s.log, &s.stderr)
		}
	}
}

// end stops the daemon, which is no fault.
func (s *starting) end(t *testing.T) {
	t.Helper()
	s.stop()
	select {
	case err := <-s.ended:
		if err != nil {
			t.Errorf("serve ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("serve does not end")
	}
}

// notifySocket is systemd's end of sd_notify(3).
func notifySocket(t *testing.T, path string) <-chan string {
	t.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	messages := make(chan string, 100)
	go func() {
		b := make([]byte, 4<<10)
		for {
			n, err := l.Read(b)
			if err != nil {
				return
			}
			messages <- string(b[:n])
		}
	}()
	return messages
}

// sql runs statements on the database, as another program, and returns what
// closes it.
func (p place) sql(t *testing.T, statements ...string) (done func()) {
	t.Helper()
	db, err := sql.Open("sqlite3", p.path("state/rockpool.db"))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return func() {
		t.Helper()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// anotherLife makes the database one that was last used, with a workspace
// that runs, before the machine started anew.
func (p place) anotherLife(t *testing.T) {
	t.Helper()
	var stderr buffer
	stop := p.start(t, &stderr)
	p.want(t, exitOK, "ws create first", "first is running")
	if code := stop(); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	p.sql(t, "UPDATE instance SET value = 'another' WHERE key = 'boot'")()
}

// runsAgain expects that the workspace of anotherLife comes back by itself,
// and that this is not taken for the end of its processes.
func (s *starting) runsAgain(t *testing.T) {
	t.Helper()
	c := client.Unix(s.path("run/agent.sock"))
	w, err := c.WorkspaceByName(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	rested, err := await(t.Context(), c, w.ID, func(agent.Step) {})
	if err != nil || rested == nil || rested.Status != agent.StatusRunning {
		t.Errorf("the workspace came to rest as %+v, %v", rested, err)
	}
	if strings.Contains(s.log.String(), "workspace does not run and is started again") {
		t.Errorf("the restart after the boot was lost:\n%s", &s.log)
	}
}

// fault makes a daemon's database unusable until end is called.
type fault func(t *testing.T, s *starting) (end func())

// held is a database on which another program has run statements.
func held(statements ...string) fault {
	return func(t *testing.T, s *starting) func() { return s.sql(t, statements...) }
}

// full is a disk without space, as package sqlite reports it.
func full(_ *testing.T, s *starting) func() {
	var over atomic.Bool
	open := s.open
	s.open = func(ctx context.Context, path string) (*sqlite.DB, error) {
		if !over.Load() {
			return nil, fmt.Errorf("open: %w", agent.Errorf(agent.CodeNoSpace, "no space left on its disk"))
		}
		return open(ctx, path)
	}
	return func() { over.Store(true) }
}

// TestServe_waits: a database that is held longer than a statement waits, or
// whose disk is full, delays the start and does not end it.
func TestServe_waits(t *testing.T) {
	for name, tt := range map[string]struct {
		fault fault
		want  string
	}{
		"held":             {held("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"), "database is locked"},
		"held for writing": {held("BEGIN IMMEDIATE"), "in use by another program"},
		"no space":         {full, "no space left on its disk"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.anotherLife(t)
			s := p.starting(t)
			over := tt.fault(t, s)
			s.begin(t)
			if got := s.told(t, "READY=1\nSTATUS=Waiting: "); !strings.Contains(got, tt.want) {
				t.Errorf("systemd is told %q, want %q", got, tt.want)
			}
			if events, _ := s.record.Since(0); !slices.ContainsFunc(events, func(e agent.BootEvent) bool {
				return e.Failed.Unit == "rockpool-agent.service" && strings.Contains(e.Failed.Message, tt.want)
			}) {
				t.Errorf("the host is told %+v, want %q", events, tt.want)
			}
			if got := s.get(t, "/api/health"); got == "OK" {
				t.Error("it is healthy without a database")
			}
			over()
			if got := s.told(t, "READY=1"); got != "READY=1\nSTATUS=" {
				t.Errorf("systemd is told %q when it serves", got)
			}
			s.runsAgain(t)
			s.end(t)
			if got := s.stderr.String(); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "rockpool-agent serve: ") || !strings.Contains(got, tt.want) {
				t.Errorf("stderr %q, want one line with %q", got, tt.want)
			}
		})
	}
}

// TestServe_waits/ended: being told to end ends the wait at once.
func TestServe_waits_ended(t *testing.T) {
	p := newPlace(t)
	s := p.starting(t)
	full(t, s)
	s.wait.pause = time.Hour
	s.begin(t)
	s.told(t, "READY=1\nSTATUS=Waiting: ")
	s.end(t)
}

// TestServe_rebootKept: a start that fails after it has seen that the machine
// started anew leaves that to be seen by the next.
func TestServe_rebootKept(t *testing.T) {
	p := newPlace(t)
	p.anotherLife(t)
	p.sql(t, "CREATE TRIGGER never BEFORE UPDATE ON workspace BEGIN SELECT RAISE(ABORT, 'never'); END")()
	if code, _, stderr := p.command(t, "", "serve"); code != exitFailure || !strings.Contains(stderr, "never") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	p.sql(t, "DROP TRIGGER never")()
	s := p.starting(t)
	s.begin(t)
	s.told(t, "READY=1")
	s.runsAgain(t)
	s.end(t)
}

func TestPasses(t *testing.T) {
	for _, err := range []error{
		fmt.Errorf("x: %w", agent.Errorf(agent.CodeUnavailable, "held")),
		fmt.Errorf("lock: %w", &fs.PathError{Op: "open", Path: "x", Err: syscall.ENOSPC}),
	} {
		if !passes(err) {
			t.Errorf("%v lasts", err)
		}
	}
	for _, err := range []error{nil, sqlite.ErrUnusable, context.Canceled, &fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}} {
		if passes(err) {
			t.Errorf("%v passes", err)
		}
	}
}
