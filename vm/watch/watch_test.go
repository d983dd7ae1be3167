package watch

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// follower is a guest that answers everything.
type follower struct {
	*Watcher
	dir string

	mu   sync.Mutex
	told map[string]guest.FileOp
}

// follow watches a directory until the test ends, and has everything told.
func follow(t testing.TB, dir string, change func(*Options)) *follower {
	t.Helper()
	o := Options{Dir: dir, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	f := &follower{Watcher: New(o), dir: dir, told: map[string]guest.FileOp{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	wg.Go(func() {
		f.Stream().Connect()
		for {
			b, err := f.Stream().Next(ctx)
			if err != nil {
				return
			}
			f.mu.Lock()
			for _, c := range b.Changes {
				f.told[c.Path] = c.Op
			}
			f.mu.Unlock()
			f.Stream().Answer(guest.FileAnswer{Epoch: b.Epoch, Seq: b.Seq, Greeting: b.Seq == 0})
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	f.await(t, "it looked at the directory", func() bool { return f.Report().Directories > 0 || f.Report().Trouble != "" })
	return f
}

// await waits until something is so.
func (f *follower) await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after 30 s: %s; told %v, %+v", what, f.all(), f.Report())
		}
	}
}

// heard waits until this was told of a path.
func (f *follower) heard(t testing.TB, p string, op guest.FileOp) {
	t.Helper()
	f.await(t, fmt.Sprint(op, " ", p), func() bool { return f.all()[p] == op })
}

func (f *follower) all() map[string]guest.FileOp {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.told)
}

func (f *follower) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.told)
}

func (f *follower) put(t testing.TB, p, content string) {
	t.Helper()
	full := filepath.Join(f.dir, p)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestWatcher_Changes is run with the platform's source, with one that takes
// two directories only, with one that loses everything, and without any.
func TestWatcher_Changes(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"source": nil,
		"limit":  func(o *Options) { o.source = limited(2) },
		"lost":   func(o *Options) { o.source = losing },
		"none":   func(o *Options) { o.Poll = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := &follower{dir: dir}
			for _, p := range []string{"a/one", "a/two", "a/three", "b b/ü", "c/d/e/f"} {
				f.put(t, p, "before")
			}
			must(t, os.Symlink("/usr/lib", filepath.Join(dir, "out")), os.Mkdir(filepath.Join(dir, "empty"), 0o555))
			f = follow(t, dir, change)

			f.put(t, "a/one", "after")
			f.heard(t, "a/one", guest.FileModified)
			must(t, os.Remove(filepath.Join(dir, "a/two")), os.Rename(filepath.Join(dir, "a/three"), filepath.Join(dir, "c/moved")))
			f.heard(t, "a/two", guest.FileDeleted)
			f.heard(t, "a/three", guest.FileDeleted)
			f.heard(t, "c/moved", guest.FileCreated)
			f.put(t, "new/in/new/in/new/file", "made at once")
			f.heard(t, "new/in/new/in/new/file", guest.FileCreated)
			f.put(t, "new/in/file", "a moment later")
			f.heard(t, "new/in/file", guest.FileCreated)
			must(t, os.Rename(filepath.Join(dir, "c/d"), filepath.Join(dir, "g")))
			f.heard(t, "g/e/f", guest.FileCreated)
			f.heard(t, "c/d", guest.FileDeleted)
			f.put(t, "g/e/f", "in a directory that was moved")
			f.put(t, "g/e/h", "new in it")
			f.heard(t, "g/e/h", guest.FileCreated)
			must(t, os.RemoveAll(filepath.Join(dir, "b b")))
			f.heard(t, "b b", guest.FileDeleted)
			f.put(t, "b b/ü", "back")
			f.heard(t, "b b/ü", guest.FileCreated)
			for p := range f.all() {
				if strings.HasPrefix(p, "out") {
					t.Errorf("%s: a link was followed", p)
				}
			}
		})
	}
}

// limited is the platform's source, which takes so many directories.
func limited(n int) func() (source, error) {
	return func() (source, error) {
		s, err := newSource()
		return &limitedSource{source: s, left: n}, err
	}
}

type limitedSource struct {
	source
	left int
}

func (s *limitedSource) add(dir string, f *os.File) error {
	if s.left == 0 {
		return errLimit
	}
	s.left--
	return s.source.add(dir, f)
}

// losing is the platform's source, whose kernel dropped everything.
func losing() (source, error) {
	s, err := newSource()
	return losingSource{s}, err
}

type losingSource struct{ source }

func (s losingSource) take() (map[hint]happened, bool) {
	s.source.take()
	return nil, true
}

func TestWatcher_Report(t *testing.T) {
	dir := t.TempDir()
	(&follower{dir: dir}).put(t, "a/b/c", "")
	f := follow(t, dir, func(o *Options) { o.source = limited(1) })
	f.await(t, "polled", func() bool { return f.Report().Polled == 2 })
	if got := f.Report().Trouble; !strings.Contains(got, "the kernel watches no more directories for this user: 2 are looked at") || !strings.Contains(got, "sysctl fs.inotify.max_user_watches") {
		t.Errorf("%q", got)
	}
	f = follow(t, dir, func(o *Options) {
		o.source = func() (source, error) { return nil, fmt.Errorf("there is no inotify") }
	})
	if got := f.Report().Trouble; got != "there is no inotify: the directory is looked at every few seconds instead" {
		t.Errorf("%q", got)
	}
}

// TestWatcher_Gone: the directory, and one below it, disappear and come back.
func TestWatcher_Gone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "project")
	aside := dir + ".aside"
	f := follow(t, dir, nil)
	if got := f.Report().Trouble; !strings.Contains(got, "is gone") {
		t.Errorf("%q", got)
	}
	f.put(t, "a/one", "before")
	f.await(t, "it is back", func() bool { return f.Report().Trouble == "" && f.Report().Files == 1 })
	must(t, os.Rename(dir, aside))
	f.await(t, "it is gone", func() bool { return strings.Contains(f.Report().Trouble, "is gone") })
	f.put(t, "a/two", "another one")
	f.heard(t, "a/two", guest.FileCreated)
	f.forget()
	must(t, os.RemoveAll(dir), os.Rename(aside, dir))
	f.heard(t, "a/one", guest.FileCreated) // in another directory than before
	f.put(t, "a/three", "watched again")
	f.heard(t, "a/three", guest.FileCreated)
}

func TestWatcher_Ignored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := &follower{dir: dir}
	f.put(t, ".gitignore", "dist/\n.env\n/gen\n")
	for _, p := range []string{"dist/a", "node_modules/a", ".git/a", "x/node_modules/b", "gen/a", "x/gen/a", ".env"} {
		f.put(t, p, "before")
	}
	f = follow(t, dir, nil)
	change := func(content string) {
		for _, p := range []string{"dist/a", "node_modules/a", ".git/a", "x/node_modules/b", "gen/a", "x/gen/a", ".env"} {
			f.put(t, p, content)
		}
	}
	change("after")
	f.heard(t, ".env", guest.FileModified)
	f.heard(t, "x/gen/a", guest.FileModified)
	if got := slices.Sorted(maps.Keys(f.all())); len(got) != 2 {
		t.Errorf("told %q", got)
	}

	f.put(t, ".rockpoolignore", "!dist/\nx/\n") // what a build on the host makes is watched
	f.heard(t, "dist/a", guest.FileCreated)
	change("at the end")
	f.heard(t, "dist/a", guest.FileCreated)
	f.await(t, "x is not watched", func() bool { return f.Report().Directories == 2 })
	must(t, os.Remove(filepath.Join(dir, ".rockpoolignore")))
	f.heard(t, "x/gen", guest.FileCreated)
}

// TestWatcher_NotText: a name that JSON cannot carry is told by its directory.
func TestWatcher_NotText(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "a"), 0o755))
	f := follow(t, dir, nil)
	f.put(t, "a/\xff\xfe", "x")
	f.heard(t, "a", guest.FileModified)
	for p := range f.all() {
		if !strings.HasPrefix(p, "a") || strings.Contains(p, "\xff") {
			t.Errorf("told %q", p)
		}
	}
}

// TestWatcher_Burst: ten thousand files at once, as by git checkout.
func TestWatcher_Burst(t *testing.T) {
	t.Parallel()
	f := follow(t, t.TempDir(), nil)
	want := map[string]bool{}
	for i := range 10000 {
		p := path.Join(fmt.Sprint("d", i%97), fmt.Sprint("e", i%7), fmt.Sprint("f", i))
		want[p] = true
		f.put(t, p, "x")
	}
	f.await(t, "all are told", func() bool {
		all := f.all()
		for p := range want {
			if all[p] == "" {
				return false
			}
		}
		return true
	})
}
