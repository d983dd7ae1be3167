//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rockpool/rootvm/vm"
)

// guestWatch is a Node program that prints what inotify tells of a directory and
// of the one below it, after a line "ready".
const guestWatch = `
const fs = require('node:fs');
for (const dir of ['', 'sub/']) {
  fs.watch('/mnt/rockpool/events/' + dir, (event, name) => console.log(event, dir + name));
}
fs.watch('/mnt/rockpool/events/replaced', (event) => console.log(event, 'the file itself'));
console.log('ready');`

// TestFileEvents: what the host does in the shared directory raises inotify's
// events in the guest, by virtiofs, or whatever the host has.
func TestFileEvents(t *testing.T) {
	fileEvents(t, primary.up(t))
}

func fileEvents(t *testing.T, i *instance) {
	dir := filepath.Join(i.project, "events")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	put := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"modified", "replaced", "sub/deleted", "paused"} {
		put(name, "before")
	}
	for n := range 20 {
		put(fmt.Sprint("sub/saved", n), "before")
	}
	w := watchGuest(t, i)
	w.hear(t, "ready")

	put("modified", "after")
	w.hear(t, "change modified")
	put("sub/created", "new")
	w.hear(t, "change sub/created")
	put(".new", "after")
	if err := os.Rename(filepath.Join(dir, ".new"), filepath.Join(dir, "replaced")); err != nil {
		t.Fatal(err)
	}
	w.hear(t, "change replaced")
	if i.status(t).Share == vm.ShareVirtiofs {
		w.hear(t, "the file itself")
	}
	if err := os.Remove(filepath.Join(dir, "sub/deleted")); err != nil {
		t.Fatal(err)
	}
	w.hear(t, "change sub") // the directory
	if got := i.sh(t, "cd /mnt/rockpool/events && cat modified replaced sub/created && ls sub/deleted 2>&1 || true"); !strings.HasPrefix(got, "afterafternew") || !strings.Contains(got, "No such file") {
		t.Errorf("the guest reads %q", got)
	}

	var times []time.Duration
	for n := range 20 {
		time.Sleep(200 * time.Millisecond)
		start := time.Now()
		put(fmt.Sprint("sub/saved", n), "after")
		w.hear(t, fmt.Sprint("change sub/saved", n))
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	t.Logf("%s: from a save to the guest's word over ssh: median %v, 95%% %v", i.status(t).Share, times[len(times)/2], times[len(times)*95/100])

	qemu := i.status(t).Processes[0].PID
	if err := syscall.Kill(qemu, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for n := range 200 {
		put("paused", fmt.Sprint(n))
		put(fmt.Sprint("sub/while-paused-", n), "new")
	}
	time.Sleep(2 * time.Second)
	if err := syscall.Kill(qemu, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.hear(t, "change paused")
	w.hear(t, "change sub/while-paused-199")
	eventually(t, time.Minute, "the state tells of file events", func() bool {
		e := i.status(t).FileEvents
		return e != nil && e.Waiting == 0 && e.Replayed >= 200
	})
	if e := i.status(t).FileEvents; e.Trouble != "" || e.Fault != "" {
		t.Errorf("%+v", *e)
	} else {
		t.Logf("%+v", *e)
	}

	sent := i.status(t).FileEvents.Sent // the guest's own writes are not raised again
	i.sh(t, "cd /mnt/rockpool/events && for n in 1 2 3; do echo $n > modified; done; sleep 6")
	if e := i.status(t).FileEvents; e.Sent > sent+4 || e.Skipped == 0 {
		t.Errorf("%d were sent before, then %+v", sent, *e)
	}
}

// guestWatcher is a watcher in the guest.
type guestWatcher struct {
	mu    sync.Mutex
	lines []string
}

// watchGuest runs guestWatch until the test ends.
func watchGuest(t *testing.T, i *instance) *guestWatcher {
	t.Helper()
	i.sh(t, "cat > /tmp/watch.js <<'END'\n"+guestWatch+"\nEND")
	cmd := exec.Command(mageBin, "vm:ssh", "--", "node", "/tmp/watch.js")
	cmd.Dir, cmd.Env = checkout, i.environment()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := &guestWatcher{}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			w.mu.Lock()
			w.lines = append(w.lines, s.Text())
			w.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_, _ = i.trySh(context.Background(), "pkill -f /tmp/watch.js")
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-read
		_ = cmd.Wait()
	})
	return w
}

// hear waits until the watcher says something.
func (w *guestWatcher) hear(t *testing.T, words string) {
	t.Helper()
	limit := time.Now().Add(30 * time.Second)
	for time.Now().Before(limit) {
		w.mu.Lock()
		heard := slices.ContainsFunc(w.lines, func(line string) bool { return strings.Contains(line, words) })
		w.mu.Unlock()
		if heard {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	t.Fatalf("not heard: %q, but %q", words, w.lines)
}
