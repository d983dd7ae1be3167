package vm

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rockpool/rootvm/guest"
)

// TestClean_NothingATerminalObeys feeds what a hostile guest may write.
func TestClean_NothingATerminalObeys(t *testing.T) {
	hostile := "a\x1b]0;title\x07b\x1b[2Jc\u009b31md\x00e\rf\tg"
	if got, want := cleanLine(hostile), "a]0;titlebc31mdef\tg"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	var b strings.Builder
	for _, part := range []string{"x\x1b", "[2Jy\n"} { // cut in two
		if n, err := (cleanWriter{&b}).Write([]byte(part)); err != nil || n != len(part) {
			t.Errorf("wrote %d, %v", n, err)
		}
	}
	if got, want := b.String(), "x[2Jy\n"; got != want {
		t.Errorf("stream %q, want %q", got, want)
	}
}

func TestState_PhasesAreBounded(t *testing.T) {
	var s State
	for i := range 10 * guest.MaxPhases {
		s.phase(guest.Phase(strings.Repeat("x", i)), 1)
	}
	if len(s.Phases) != guest.MaxPhases {
		t.Errorf("%d phases kept", len(s.Phases))
	}
}

// TestSerialLog_bounded: a guest that never stops writing fills a few MB.
func TestSerialLog_bounded(t *testing.T) {
	const limit = 64 << 10
	var read atomic.Int64
	log := serialLog{path: filepath.Join(t.TempDir(), "serial.log"), limit: limit, offset: &read}
	f, err := os.OpenFile(log.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var seen int
	for i := range 200 {
		if _, err := fmt.Fprintf(f, "%04d %s\n", i, strings.Repeat("x", 1000)); err != nil {
			t.Fatal(err)
		}
		b, err := log.read()
		if err != nil {
			t.Fatal(err)
		}
		seen += strings.Count(string(b), "\n")
		for _, path := range []string{log.path, log.path + ".1"} {
			if info, err := os.Stat(path); err == nil && info.Size() > limit+2000 {
				t.Fatalf("%s has grown to %d bytes", filepath.Base(path), info.Size())
			}
		}
	}
	if seen != 200 {
		t.Errorf("%d of 200 lines were read", seen)
	}
	last, err := os.ReadFile(log.path + ".1")
	if err != nil || !strings.Contains(string(last), "\n0150 ") && !strings.Contains(string(last), "\n0100 ") {
		t.Errorf("the log before is not kept: %d bytes, %v", len(last), err)
	}
}

// TestSupervisor_repeatedFailure: what a guest says again and again is logged
// once.
func TestSupervisor_repeatedFailure(t *testing.T) {
	var log strings.Builder
	s := &supervisor{inst: Instance{Dir: t.TempDir()}, log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 1000 {
		s.takeMessage(guest.Message{Event: guest.EventFailed, Unit: "a.service", Message: "again"})
	}
	s.takeMessage(guest.Message{Event: guest.EventFailed, Unit: "b.service", Message: "another"})
	if n := strings.Count(log.String(), "guest failed"); n != 2 {
		t.Errorf("logged %d times", n)
	}
}

// TestChannel_disk: what the guest says of its disk is kept when it is a report,
// and dropped otherwise.
func TestChannel_disk(t *testing.T) {
	ours, theirs := net.Pipe()
	c := newChannel(nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.exchange(ctx, theirs) }()
	go io.Copy(io.Discard, ours)
	s := &supervisor{log: slog.New(slog.DiscardHandler)}
	for _, line := range []string{
		`{"event":"disk"}`,
		`{"event":"disk","disk":{"size":-1}}`,
		`{"event":"disk","disk":{"size":9,"workspaces":[{"name":"a\u001bb"}]}}`,
		`{"event":"disk","disk":{"size":8,"free":3,"workspaces":[{"name":"one","used":2,"limit":3}]}}`,
	} {
		if _, err := fmt.Fprintln(ours, line); err != nil {
			t.Fatal(err)
		}
	}
	s.takeMessage(<-c.events)
	if s.state.Disk == nil || s.state.Disk.Size != 8 || s.state.Disk.Workspaces[0].Name != "one" {
		t.Errorf("%+v", s.state.Disk)
	}
	cancel()
	<-done
}
