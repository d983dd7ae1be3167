package replay_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent/replay"
	"github.com/rockpool/rootvm/vm/watch"
)

// write writes a file on one side.
func write(t testing.TB, content string, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// do fails the test for any error.
func do(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// know has the guest's kernel learn of everything, as a program there would.
func know(t testing.TB, dir string) {
	t.Helper()
	do(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			_, err = os.ReadFile(p)
		}
		return err
	}))
}

// joined is a share whose two sides are joined over lines of JSON, as in the
// product.
type joined struct {
	share
	watcher *watch.Watcher
	own     *replay.Own
	mu      sync.Mutex
	touched map[string]int // by path: how often its events were raised
	hangUp  func()
}

// join watches the host's side of a share and replays on the guest's.
func join(t testing.TB, s share, own *replay.Own) *joined {
	t.Helper()
	j := &joined{share: s, own: own, touched: map[string]int{}}
	j.watcher = watch.New(watch.Options{Dir: s.host, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); j.watcher.Run(ctx) }()
	j.connect(t)
	t.Cleanup(func() { cancel(); j.hangUp(); <-ended })
	j.settle(t)
	return j
}

// connect starts both ends of a connection, of which the guest's knows nothing
// of those before.
func (j *joined) connect(t testing.TB) {
	t.Helper()
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { converse(ctx, ours, j.watcher.Stream()) })
	wg.Go(func() {
		orphans := replay.NewOrphans(j.guest)
		wg.Go(func() { orphans.Run(ctx) })
		r := (&replay.Replayer{Dir: j.guest, Own: j.own, Orphans: orphans}).Touched(func(p string) {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.touched[p]++
		})
		_ = replay.Serve(ctx, theirs, theirs, r)
	})
	j.hangUp = func() { cancel(); _ = ours.Close(); wg.Wait() }
}

// count is how often the events of a path were raised.
func (j *joined) count(path string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.touched[path]
}

// settle waits until the guest has answered everything that the watcher saw.
func (j *joined) settle(t testing.TB) {
	t.Helper()
	w := j.watcher
	deadline := time.Now().Add(time.Minute)
	for quiet := 0; quiet < 10; {
		time.Sleep(20 * time.Millisecond)
		if r := w.Report(); r.Waiting == 0 && r.Directories > 0 {
			quiet++
		} else {
			quiet = 0
		}
		if time.Now().After(deadline) {
			t.Fatalf("still waiting: %+v", w.Report())
		}
	}
}

func TestReplayer_Replay(t *testing.T) {
	t.Parallel()
	s := mountShare(t)
	do(t, os.MkdirAll(filepath.Join(s.host, "a/b"), 0o755))
	for _, f := range []string{"a/modified", "a/deleted", "a/b/replaced", "a/renamed"} {
		write(t, "before", s.host, f)
	}
	know(t, s.guest)
	r := listen(t, s.guest)
	j := join(t, s, nil)

	write(t, "after, longer", s.host, "a/modified")
	do(t, os.Remove(filepath.Join(s.host, "a/deleted")))
	write(t, "after", s.host, "a/b/.new")
	do(t, os.Rename(filepath.Join(s.host, "a/b/.new"), filepath.Join(s.host, "a/b/replaced")),
		os.Rename(filepath.Join(s.host, "a/renamed"), filepath.Join(s.host, "moved")),
		os.Mkdir(filepath.Join(s.host, "a/c"), 0o755))
	write(t, "new", s.host, "a/c/new")
	j.settle(t)

	r.saw(t, "a/modified", unix.IN_MODIFY)
	r.saw(t, "a/b/replaced", unix.IN_MODIFY|unix.IN_DELETE_SELF) // the file that was at the path, and the new one
	r.saw(t, "moved", unix.IN_MODIFY)
	r.saw(t, "a", unix.IN_ATTRIB|unix.IN_ISDIR) // of what was deleted in it
	r.saw(t, "a/deleted", unix.IN_DELETE_SELF)
	r.saw(t, "a/c", unix.IN_ATTRIB|unix.IN_ISDIR)
	for path, want := range map[string]string{"a/modified": "after, longer", "a/b/replaced": "after", "a/c/new": "new", "moved": "before"} {
		b, err := os.ReadFile(filepath.Join(s.guest, path))
		if err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	if report := j.watcher.Report(); report.Fault != "" || report.Trouble != "" {
		t.Errorf("%+v", report)
	}
}

// TestOrphans: who watches a file itself hears of its end, also when the
// guest's kernel has not looked at its path for a while.
func TestOrphans(t *testing.T) {
	t.Parallel()
	s := mountShare(t)
	for _, f := range []string{"replaced", "deleted", "stays"} {
		write(t, "before", s.host, f)
	}
	know(t, s.guest)
	r := listen(t, s.guest)
	j := join(t, s, nil)
	time.Sleep(1500 * time.Millisecond) // the kernel asks for the path again
	write(t, "after", s.host, ".new")
	do(t, os.Rename(filepath.Join(s.host, ".new"), filepath.Join(s.host, "replaced")), os.Remove(filepath.Join(s.host, "deleted")))
	j.settle(t)
	r.saw(t, "replaced", unix.IN_DELETE_SELF)
	r.saw(t, "deleted", unix.IN_DELETE_SELF)
	if got := r.all()["stays"]; got != 0 {
		t.Errorf("%#x of a file that nobody touched", got)
	}
}
