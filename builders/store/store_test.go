package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rockpool/rootvm/builders/store"
)

func recipe(step string, values ...string) store.Recipe {
	r := store.Recipe{Step: step}
	for i, v := range values {
		r.Value(fmt.Sprintf("input %d", i), v)
	}
	return r
}

// tree builds a result with all that a result may hold.
func tree(_ context.Context, dir string) error {
	return errors.Join(
		os.MkdirAll(filepath.Join(dir, "bin", "empty"), 0o755),
		os.WriteFile(filepath.Join(dir, "bin", "tool"), []byte("#!/bin/sh\n"), 0o755),
		os.WriteFile(filepath.Join(dir, "data"), []byte("data"), 0o444),
		os.Symlink("bin/tool", filepath.Join(dir, "link")),
	)
}

func never(context.Context, string) error { return errors.New("it is made again") }

func TestStore_Make(t *testing.T) {
	s := store.Store{Dir: filepath.Join(t.TempDir(), "store"), Say: func(line string) { t.Errorf("said %q", line) }}
	r := recipe("tools", "a", "b")
	if _, ok := s.Find(r); ok {
		t.Error("an empty store has a result")
	}
	dir, cached, err := s.Make(t.Context(), r, tree)
	if err != nil || cached {
		t.Fatalf("first: cached %v, %v", cached, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "link")); err != nil || string(b) != "#!/bin/sh\n" {
		t.Errorf("the result has %q, %v", b, err)
	}

	again, cached, err := s.Make(t.Context(), r, never)
	if err != nil || !cached || again != dir {
		t.Errorf("second: %s, cached %v, %v", again, cached, err)
	}
	if found, ok := s.Find(r); !ok || found != dir {
		t.Errorf("found %s, %v", found, ok)
	}
	for _, other := range []store.Recipe{recipe("tools", "a", "c"), recipe("tools", "a"), recipe("tools", "ab"), recipe("npm", "a", "b")} {
		if _, ok := s.Find(other); ok {
			t.Errorf("%v is taken for another", other)
		}
	}
}

// TestStore_Remove: what its user found damaged is said once and made again.
func TestStore_Remove(t *testing.T) {
	var said []string
	s := store.Store{Dir: t.TempDir(), Say: func(line string) { said = append(said, line) }}
	r := recipe("rootfs", "a")
	if _, _, err := s.Make(t.Context(), r, tree); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(r, errors.New("root.tar has other content")); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Find(r); ok {
		t.Error("it is still there")
	}
	if _, cached, err := s.Make(t.Context(), r, tree); err != nil || cached {
		t.Errorf("cached %v, %v", cached, err)
	}
	if want := []string{"rootfs in the cache is damaged and is made again: root.tar has other content"}; !slices.Equal(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
}

// TestStore_Make_fails: what could not be made is no result, and leaves nothing.
func TestStore_Make_fails(t *testing.T) {
	s := store.Store{Dir: t.TempDir()}
	r := recipe("tools", "a")
	_, _, err := s.Make(t.Context(), r, func(ctx context.Context, dir string) error {
		return errors.Join(tree(ctx, dir), errors.New("no room"))
	})
	if err == nil || !strings.Contains(err.Error(), "tools: no room") {
		t.Errorf("error %v", err)
	}
	left, err := filepath.Glob(filepath.Join(s.Dir, "tools", "*.partial"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %q, %v", left, err)
	}
	if _, cached, err := s.Make(t.Context(), r, tree); err != nil || cached {
		t.Errorf("again: cached %v, %v", cached, err)
	}
}

// TestStore_Make_damaged: each way to damage a result is noticed, named and
// mended.
func TestStore_Make_damaged(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(dir string) error
		says string
	}{
		"truncated":         {func(dir string) error { return os.Truncate(dir+"/bin/tool", 3) }, "bin/tool has mode -rwxr-xr-x and 3 bytes"},
		"emptied":           {func(dir string) error { return os.Truncate(dir+"/bin/tool", 0) }, "bin/tool"},
		"other content":     {func(dir string) error { return poison(dir+"/bin/tool", "#!/bin/no\n") }, "bin/tool has other content"},
		"other mode":        {func(dir string) error { return os.Chmod(dir+"/bin/tool", 0o644) }, "bin/tool has mode"},
		"a file is gone":    {func(dir string) error { return os.Remove(dir + "/link") }, "link is missing"},
		"the first is gone": {func(dir string) error { return os.RemoveAll(dir + "/bin") }, "one before it is missing"},
		"a file more":       {func(dir string) error { return os.WriteFile(dir+"/a", nil, 0o644) }, "a is there and should not be"},
		"another link": {func(dir string) error {
			return errors.Join(os.Remove(dir+"/link"), os.Symlink("/bin/sh", dir+"/link"))
		}, "link has other content"},
		"no record":     {func(dir string) error { return os.Remove(dir + "/../record.json") }, "record.json is missing"},
		"a bad record":  {func(dir string) error { return os.Truncate(dir+"/../record.json", 10) }, "record.json"},
		"all files":     {func(dir string) error { return os.RemoveAll(dir) }, "cannot be read"},
		"no directory":  {func(dir string) error { return os.RemoveAll(filepath.Dir(dir)) }, ""},
		"set back time": {func(dir string) error { return setBack(dir+"/data", "evil") }, "data has other content"},
	} {
		t.Run(name, func(t *testing.T) {
			var said []string
			s := store.Store{Dir: t.TempDir(), Say: func(line string) { said = append(said, line) }}
			dir, _, err := s.Make(t.Context(), recipe("tools", "a"), tree)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.harm(dir); err != nil {
				t.Fatal(err)
			}
			if _, ok := s.Find(recipe("tools", "a")); ok {
				t.Error("the damaged result is found")
			}
			if c.says == "" {
				if said != nil {
					t.Errorf("said %q of what is not there", said)
				}
			} else if len(said) != 1 || !strings.Contains(said[0], c.says) || !strings.Contains(said[0], "tools in the cache is damaged") {
				t.Errorf("said %q, want %q", said, c.says)
			}

			again, cached, err := s.Make(t.Context(), recipe("tools", "a"), tree)
			if err != nil || cached {
				t.Fatalf("made again: cached %v, %v", cached, err)
			}
			if b, err := os.ReadFile(filepath.Join(again, "bin", "tool")); err != nil || string(b) != "#!/bin/sh\n" {
				t.Errorf("after that it has %q, %v", b, err)
			}
		})
	}
}

// poison replaces the content of a file by some of the same length, in place.
func poison(file, content string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(content), 0)
	return errors.Join(err, f.Close())
}

// setBack does so and gives the file its former time.
func setBack(file, content string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(file, 0o644), poison(file, content), os.Chmod(file, info.Mode())); err != nil {
		return err
	}
	return os.Chtimes(file, info.ModTime(), info.ModTime())
}

// TestStore_Copied: a store that was copied elsewhere, so that the kernel has
// other times of change, is as good; files are read once for it.
func TestStore_Copied(t *testing.T) {
	s := store.Store{Dir: t.TempDir(), Say: func(line string) { t.Errorf("said %q", line) }}
	if _, _, err := s.Make(t.Context(), recipe("tools", "a"), tree); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-a", s.Dir, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.Dir = to
	for range 2 {
		if _, cached, err := s.Make(t.Context(), recipe("tools", "a"), never); err != nil || !cached {
			t.Errorf("cached %v, %v", cached, err)
		}
	}
}

// TestStore_Make_once: of many that want one result at once, one makes it.
func TestStore_Make_once(t *testing.T) {
	s := store.Store{Dir: t.TempDir()}
	var made atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			_, _, err := s.Make(t.Context(), recipe("tools", "a"), func(ctx context.Context, dir string) error {
				made.Add(1)
				time.Sleep(100 * time.Millisecond)
				return tree(ctx, dir)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := made.Load(); n != 1 {
		t.Errorf("made %d times", n)
	}
}

// TestStore_Make_waits at most until its context ends.
func TestStore_Make_waits(t *testing.T) {
	s := store.Store{Dir: t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err := s.Make(t.Context(), recipe("tools", "a"), func(_ context.Context, dir string) error {
		cancel()
		_, _, err := s.Make(ctx, recipe("tools", "a"), never)
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "wait for another build") {
			t.Errorf("error %v", err)
		}
		return os.WriteFile(filepath.Join(dir, "f"), nil, 0o644)
	})
	if err != nil {
		t.Error(err)
	}
}

// TestStore_Killed kills a process that makes a result, at moments spread over
// its work. The next one makes a whole result, whatever was left.
func TestStore_Killed(t *testing.T) {
	if dir := os.Getenv("STORE_TEST_DIR"); dir != "" {
		makeSlowly(t, dir)
		return
	}
	dir, finished := t.TempDir(), 0
	for n := range 30 {
		sub := filepath.Join(dir, fmt.Sprint(n%3))
		cmd := exec.Command(os.Args[0], "-test.run=^TestStore_Killed$")
		cmd.Env = append(os.Environ(), "STORE_TEST_DIR="+sub)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(n) * 7 * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()

		s := store.Store{Dir: sub}
		found, ok := s.Find(recipe("slow", "a"))
		if ok {
			finished++
			if b, err := os.ReadFile(filepath.Join(found, "19")); err != nil || string(b) != "content" {
				t.Errorf("round %d: half a result is taken for a whole one: %q, %v", n, b, err)
			}
		}
		if n%3 == 2 {
			if _, err := s.Prune(1<<40, time.Hour); err != nil {
				t.Error(err)
			}
			if left, _ := filepath.Glob(filepath.Join(sub, "*", "*.partial")); left != nil {
				t.Errorf("round %d: pruning left %q", n, left)
			}
		}
	}
	t.Logf("%d of 30 were finished before they were killed", finished)
	for n := range 3 {
		s := store.Store{Dir: filepath.Join(dir, fmt.Sprint(n))}
		if _, _, err := s.Make(t.Context(), recipe("slow", "a"), slow); err != nil {
			t.Error(err)
		}
	}
}

func makeSlowly(t *testing.T, dir string) {
	if _, _, err := (store.Store{Dir: dir}).Make(t.Context(), recipe("slow", "a"), slow); err != nil {
		t.Fatal(err)
	}
}

func slow(_ context.Context, dir string) error {
	for n := range 20 {
		time.Sleep(5 * time.Millisecond)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(n)), []byte("content"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// TestStore_Prune: by age first, then by size, the longest unused first; what is
// in use or young stays.
func TestStore_Prune(t *testing.T) {
	s := store.Store{Dir: t.TempDir()}
	days := map[string]int{"old": 50, "large": 3, "recent": 2, "young": 0}
	for name, size := range map[string]int{"old": 10, "large": 1000, "recent": 100, "young": 5000} {
		dir, _, err := s.Make(t.Context(), recipe("step", name), func(_ context.Context, dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o644), os.MkdirAll(filepath.Join(dir, "locked"), 0o500))
		})
		used := time.Now().AddDate(0, 0, -days[name])
		if err := errors.Join(err, os.Chtimes(filepath.Join(dir, "..", "used"), used, used)); err != nil {
			t.Fatal(err)
		}
	}

	removed, err := s.Prune(5500, 30*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	sizes := func(list []store.Entry) (all []int64) {
		for _, e := range list {
			all = append(all, e.Size)
		}
		slices.Sort(all)
		return all
	}
	if got := sizes(removed); !slices.Equal(got, []int64{10, 1000}) {
		t.Errorf("removed those of %v bytes", got)
	}
	list, err := s.List()
	if err != nil || !slices.Equal(sizes(list), []int64{100, 5000}) {
		t.Errorf("kept those of %v bytes, %v", sizes(list), err)
	}
	err = filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if d.Name() == "old" || d.Name() == "large" {
			t.Errorf("%s is still there", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestStore_Why(t *testing.T) {
	s := store.Store{Dir: t.TempDir()}
	if _, _, _, err := s.Why("step"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), `0 results of the step "step"`) {
		t.Errorf("of nothing: %v", err)
	}
	for _, values := range [][]string{{"lock 1", "script"}, {"lock 2", "script"}, {"lock 2", "script", "tool"}} {
		if _, _, err := s.Make(t.Context(), recipe("step", values...), tree); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
		switch _, _, differences, err := s.Why("step"); {
		case len(values) == 3:
			if err != nil || len(differences) != 1 || differences[0].Input != "input 2" || differences[0].Before != "" {
				t.Errorf("an input more: %v, %v", differences, err)
			}
		case values[0] == "lock 2":
			if err != nil || len(differences) != 1 || differences[0].Input != "input 0" {
				t.Errorf("an input changed: %v, %v", differences, err)
			}
		}
	}
}

// TestRecipe_Files: every byte, name and mode counts.
func TestRecipe_Files(t *testing.T) {
	s, dir := store.Store{Dir: t.TempDir()}, t.TempDir()
	seen := map[string]bool{}
	for n, change := range []func() error{
		func() error { return os.WriteFile(dir+"/a", []byte("1"), 0o644) },
		func() error { return os.WriteFile(dir+"/a", []byte("2"), 0o644) },
		func() error { return os.Chmod(dir+"/a", 0o755) },
		func() error { return os.Rename(dir+"/a", dir+"/b") },
		func() error { return os.Symlink("b", dir+"/c") },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		r := store.Recipe{Step: "step"}
		if err := r.Files("scripts", dir); err != nil {
			t.Fatal(err)
		}
		made, cached, err := s.Make(t.Context(), r, tree)
		if err != nil || cached || seen[made] {
			t.Errorf("change %d is not seen: %v", n, err)
		}
		seen[made] = true
	}
	r := store.Recipe{Step: "step"}
	if err := r.Files("scripts", dir+"/none"); err == nil {
		t.Error("no error for files that are not there")
	}
}
