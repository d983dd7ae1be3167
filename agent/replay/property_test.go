package replay_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	seeds = flag.Int("seeds", 4, "how many sequences of operations the property tests make")
	seed  = flag.Uint64("seed", 0, "make this one sequence")
)

// TestShare_Property: whatever is done on the host, in any order and with
// connections that break, whoever watches in the guest hears of every path
// that is another in the end; no time is set back, and no content is changed.
func TestShare_Property(t *testing.T) {
	t.Parallel()
	first, n := uint64(1), *seeds
	if *seed != 0 {
		first, n = *seed, 1
	}
	s := mountShare(t)
	for i := range uint64(n) {
		t.Run(fmt.Sprint("seed ", first+i), func(t *testing.T) {
			dir := fmt.Sprint("tree", first+i)
			do(t, os.Mkdir(filepath.Join(s.host, dir), 0o755))
			m := &model{
				rand: rand.New(rand.NewPCG(first+i, 7)), root: filepath.Join(s.host, dir),
				files: map[string]string{}, dirs: map[string]bool{".": true}, links: map[string]bool{}, times: map[uint64]time.Time{},
			}
			for range 60 {
				m.step(t)
			}
			know(t, filepath.Join(s.guest, dir))
			before := look(t, m.root)

			j := join(t, s, nil)
			for range 150 {
				m.step(t)
				switch n := m.rand.IntN(100); {
				case n < 3:
					j.hangUp()
					j.connect(t)
				case n < 25:
					time.Sleep(time.Duration(m.rand.IntN(40)) * time.Millisecond)
				}
			}
			j.settle(t)
			m.check(t, j, dir, before)
		})
	}
}

// model is what a directory of the host should hold.
type model struct {
	rand  *rand.Rand
	root  string
	files map[string]string // content by path
	dirs  map[string]bool
	links map[string]bool
	times map[uint64]time.Time // by inode: the last time that was seen
}

func (m *model) at(p string) string { return filepath.Join(m.root, p) }

// pick is one of these paths, or "".
func pick[V any](m *model, set map[string]V) string {
	keys := slices.Sorted(maps.Keys(set))
	if len(keys) == 0 {
		return ""
	}
	return keys[m.rand.IntN(len(keys))]
}

// free is a path at which there is nothing.
func (m *model) free() string {
	names := []string{"a", "b b", "ü.ts", "d'", `e"`, "f\\", "[g]", "h\n", "日本", "<i>&"}
	for {
		p := path.Join(pick(m, m.dirs), fmt.Sprint(names[m.rand.IntN(len(names))], m.rand.IntN(40)))
		if _, ok := m.files[p]; !ok && !m.dirs[p] && !m.links[p] {
			return p
		}
	}
}

// step does one thing.
func (m *model) step(t *testing.T) {
	t.Helper()
	content := strings.Repeat(string(rune('a'+m.rand.IntN(26))), m.rand.IntN(3000))
	file := pick(m, m.files)
	switch n := m.rand.IntN(100); {
	case n < 20 || file == "":
		m.put(t, m.free(), content)
	case n < 45:
		m.put(t, file, content)
	case n < 55: // as editors do
		temporary := m.free()
		do(t, os.WriteFile(m.at(temporary), []byte(content), 0o644), os.Rename(m.at(temporary), m.at(file)))
		m.files[file] = content
		m.note(t, file)
	case n < 65:
		do(t, os.Remove(m.at(file)))
		delete(m.files, file)
	case n < 73:
		to := m.free()
		do(t, os.Rename(m.at(file), m.at(to)))
		m.files[to] = m.files[file]
		delete(m.files, file)
	case n < 83:
		p := path.Join(m.free(), "deep", "er")
		do(t, os.MkdirAll(m.at(p), 0o755))
		m.dirs[path.Dir(path.Dir(p))], m.dirs[path.Dir(p)], m.dirs[p] = true, true, true
		m.put(t, path.Join(p, "at once"), content)
	case n < 88:
		m.moveDir(t, m.free())
	case n < 92:
		m.moveDir(t, "")
	case n < 96:
		p := m.free()
		do(t, os.Symlink("/etc", m.at(p)))
		m.links[p] = true
	default: // replaced at once
		do(t, os.Remove(m.at(file)))
		m.put(t, file, content)
	}
}

// put writes a file.
func (m *model) put(t *testing.T, p, content string) {
	t.Helper()
	do(t, os.WriteFile(m.at(p), []byte(content), 0o644))
	m.files[p] = content
	m.note(t, p)
}

// note remembers the time of a file.
func (m *model) note(t *testing.T, p string) {
	t.Helper()
	var st unix.Stat_t
	do(t, unix.Lstat(m.at(p), &st))
	m.times[st.Ino] = time.Unix(st.Mtim.Unix())
}

// moveDir moves a directory, or removes it.
func (m *model) moveDir(t *testing.T, to string) {
	t.Helper()
	dir := pick(m, m.dirs)
	if dir == "." || strings.HasPrefix(to, dir+"/") {
		return
	}
	if to == "" {
		do(t, os.RemoveAll(m.at(dir)))
	} else {
		do(t, os.Rename(m.at(dir), m.at(to)))
	}
	moveKeys(m.files, dir, to)
	moveKeys(m.dirs, dir, to)
	moveKeys(m.links, dir, to)
}

func moveKeys[V any](set map[string]V, dir, to string) {
	for p, v := range maps.Clone(set) {
		if p != dir && !strings.HasPrefix(p, dir+"/") {
			continue
		}
		delete(set, p)
		if to != "" {
			set[to+strings.TrimPrefix(p, dir)] = v
		}
	}
}

// seen is what somebody who looks sees of a path.
type seen struct {
	inode uint64
	mtime unix.Timespec
	size  int64
}

// look sees everything below a directory; of directories only which they are.
func look(t *testing.T, root string) map[string]seen {
	t.Helper()
	all := map[string]seen{}
	do(t, filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		all[rel] = seen{st.Ino, st.Mtim, st.Size}
		if d.IsDir() {
			all[rel] = seen{inode: st.Ino}
		}
		return nil
	}))
	return all
}

// check compares what is with what should be.
func (m *model) check(t *testing.T, j *joined, dir string, before map[string]seen) {
	t.Helper()
	time.Sleep(1100 * time.Millisecond) // what the guest's kernel remembers of what was never told
	after := look(t, m.root)
	if there := look(t, filepath.Join(j.guest, dir)); !maps.Equal(after, there) {
		t.Errorf("the sides differ:\n%v\n%v", after, there)
	}
	if want := len(m.files) + len(m.dirs) + len(m.links); len(after) != want {
		t.Errorf("%d paths, want %d", len(after), want)
	}
	for p, content := range m.files {
		if b, err := os.ReadFile(filepath.Join(j.guest, dir, p)); err != nil || string(b) != content {
			t.Errorf("%q: %d bytes, %v, want %d", p, len(b), err, len(content))
		}
	}

	for p, is := range after {
		if was, ok := before[p]; (!ok || was != is) && j.count(path.Join(dir, p)) == 0 {
			t.Errorf("%q is another, and nobody was told", p)
		}
		if last, ok := m.times[is.inode]; ok && time.Unix(is.mtime.Unix()).Before(last) && is.mtime != (unix.Timespec{}) {
			t.Errorf("%q: its time was set back from %v to %v", p, last, time.Unix(is.mtime.Unix()))
		}
	}
	for p := range before {
		if _, ok := after[p]; ok {
			continue
		}
		above := path.Dir(p)
		for above != "." && after[above].inode == 0 {
			above = path.Dir(above)
		}
		if j.count(path.Join(dir, above)) == 0 {
			t.Errorf("%q is gone, and nobody who watches %q was told", p, above)
		}
	}
	if report := j.watcher.Report(); report.Fault != "" || report.Trouble != "" {
		t.Errorf("%+v", report)
	}
}
