package vm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm/watch"
)

// TestChannel_Files: over each connection the guest is greeted, and told of
// changes once it has answered; what it did not answer is told again.
func TestChannel_Files(t *testing.T) {
	dir := t.TempDir()
	machine := fakeTransport{conns: make(chan net.Conn)}
	c := newChannel(machine)
	c.retry = time.Millisecond
	w := watch.New(watch.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	go w.Run(t.Context())
	c.files = w.Stream()
	go c.run(t.Context())

	connect := func() (func() *guest.FileBatch, func(guest.FileAnswer), net.Conn) {
		ours, theirs := net.Pipe()
		machine.conns <- theirs
		lines := bufio.NewScanner(ours)
		next := func() *guest.FileBatch {
			t.Helper()
			for lines.Scan() {
				var call guest.Call
				if err := json.Unmarshal(lines.Bytes(), &call); err != nil {
					t.Fatal(err)
				}
				if call.Request == guest.RequestFiles {
					return call.Files
				}
			}
			t.Fatal("the connection ended")
			return nil
		}
		answer := func(a guest.FileAnswer) {
			if err := json.NewEncoder(ours).Encode(guest.Message{Event: guest.EventFiles, Files: &a}); err != nil {
				t.Error(err)
			}
		}
		return next, answer, ours
	}
	next, answer, conn := connect()
	greeting := next()
	if greeting.Seq != 0 || greeting.Epoch == "" {
		t.Fatalf("%+v", greeting)
	}
	answer(guest.FileAnswer{Epoch: greeting.Epoch, Greeting: true})
	for w.Report().Directories == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b := next(); b.Seq != 1 || len(b.Changes) != 1 || b.Changes[0].Path != "f" || b.Changes[0].Size != 1 {
		t.Fatalf("%+v", b)
	}
	conn.Close()

	next, answer, conn = connect()
	defer conn.Close()
	if b := next(); b.Seq != 0 || b.Epoch != greeting.Epoch {
		t.Fatalf("%+v", b)
	}
	answer(guest.FileAnswer{Epoch: greeting.Epoch, Greeting: true})
	if b := next(); b.Seq != 1 || len(b.Changes) != 1 || b.Changes[0].Path != "f" {
		t.Fatalf("%+v", b)
	}
	answer(guest.FileAnswer{Epoch: greeting.Epoch, Seq: 1, Replayed: 1, Fault: "a\x1b[2Jb"})
	for w.Report().Replayed != 1 {
		time.Sleep(time.Millisecond)
	}
	if r := w.Report(); r.Waiting != 0 || strings.Contains(r.Fault, "\x1b") {
		t.Errorf("%+v", r)
	}
}

// TestSupervisor_WatchFiles: nothing is watched without a share, and by 9p.
func TestSupervisor_WatchFiles(t *testing.T) {
	for share, want := range map[string]bool{ShareVirtiofs: true, Share9P: false, "tart": true, ShareNone: false, "": false} {
		s := &supervisor{guest: newChannel(nil), log: slog.New(slog.DiscardHandler)}
		s.inst.Config.ShareDir, s.state.Share = t.TempDir(), share
		s.watchFiles(t.Context())
		if got := s.guest.files != nil; got != want || s.countFiles() != want {
			t.Errorf("share %q is watched: %v", share, got)
		}
	}
	s := &supervisor{guest: newChannel(nil), log: slog.New(slog.DiscardHandler)}
	s.state.Share = ShareVirtiofs
	s.watchFiles(t.Context())
	if s.files != nil || s.guest.files != nil {
		t.Error("no directory is watched")
	}
}

func TestState_Table_FileEvents(t *testing.T) {
	r := FileEvents{Files: 10, Directories: 2, Scans: 1, Trouble: "it is polled"}
	r.Sent, r.Replayed, r.Lag, r.Lag95 = 5, 4, 20.4, 99.6
	got := fmt.Sprint(fileEventsLine(r))
	if want := "10 files in 2 directories; sent 5, replayed 4, waiting 0, scans 1; 20 ms (95 %: 100 ms); it is polled"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
