package communicator

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/rockpool/rootvm/builders/store"
)

// build is what a test's build does to a root file system: lines are commands,
// except "upload CONTENT", which uploads /root/in.
func build(t *testing.T, r testRoot, dir, base string, steps ...string) (l *Layers, said []string) {
	t.Helper()
	l = NewLayers(r.Root, store.Store{Dir: dir}, base)
	return l, buildOn(t, l, steps...)
}

func buildOn(t *testing.T, l *Layers, steps ...string) (said []string) {
	t.Helper()
	for _, step := range steps {
		if content, ok := strings.CutPrefix(step, "upload "); ok {
			if err := l.Upload("/root/in", strings.NewReader(content), nil); err != nil {
				t.Fatal(err)
			}
			continue
		}
		stdout, stderr, status := sh(t, l, step)
		said = append(said, stdout+"|"+stderr+"|"+strconv.Itoa(status))
	}
	return said
}

// copyOf is another root file system of the same content.
func copyOf(t *testing.T, r testRoot) testRoot {
	t.Helper()
	var b bytes.Buffer
	if err := r.Namespace.Tar(t.Context(), r.Dir, &b, time.Now()); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "userns")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Namespace.RemoveAll(dir) })
	if err := r.Namespace.Untar(t.Context(), dir, &b); err != nil {
		t.Fatal(err)
	}
	root := r.Namespace.Chroot(dir)
	return testRoot{root, New(root)}
}

func content(t *testing.T, r testRoot, epoch time.Time) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := r.Namespace.Tar(t.Context(), r.Dir, &b, epoch); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var steps = []string{
	`upload one`,
	`cat /root/in; echo warning >&2; mkdir -p /srv/d/e; touch /srv/d/e/f; chown 33:33 /srv/d/e; ln /root/in /root/hard; ln -s nowhere /root/soft; chmod 4711 /root/hard`,
	`rm -rf /srv/d; touch /srv/d; rm /root/soft; mkdir /root/soft; echo more >>/root/in; echo two`,
	`touch "/srv/a b
c"; rm /etc/passwd 2>/dev/null || true; mv /root/in /root/moved`,
}

func TestLayers_Start_Hit(t *testing.T) {
	base := rootFS(t)
	first, second := copyOf(t, base), copyOf(t, base)
	dir := filepath.Join(t.TempDir(), "layers")
	l, said := build(t, first, dir, "base", steps...)
	if hits, misses := l.Hits(); hits != 0 || misses != 3 {
		t.Errorf("first build: %d hits, %d misses", hits, misses)
	}
	if want := []string{"one|warning\n|0", "two\n||0", "||0"}; !slices.Equal(said, want) {
		t.Errorf("first build said %q, want %q", said, want)
	}

	l, again := build(t, second, dir, "base", steps...)
	if hits, misses := l.Hits(); hits != 3 || misses != 0 {
		t.Errorf("second build: %d hits, %d misses", hits, misses)
	}
	if !slices.Equal(said, again) {
		t.Errorf("second build said %q, want %q", again, said)
	}

	epoch := time.Unix(1700000000, 0)
	if !bytes.Equal(content(t, first, epoch), content(t, second, epoch)) {
		t.Error("a tree from the cache differs from the one it was made of")
	}
}

func TestLayers_Start_Miss(t *testing.T) {
	base := rootFS(t)
	dir := filepath.Join(t.TempDir(), "layers")
	build(t, copyOf(t, base), dir, "base", steps...)
	for name, tc := range map[string]struct {
		base         string
		change       func([]string)
		hits, misses int
	}{
		"LastCommand": {"base", func(s []string) { s[3] = "echo other" }, 2, 1},
		"Upload":      {"base", func(s []string) { s[0] = "upload changed" }, 0, 3},
		"Base":        {"other", func([]string) {}, 0, 3},
		"Middle":      {"base", func(s []string) { s[2] = "echo other" }, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			changed := slices.Clone(steps)
			tc.change(changed)
			cached := copyOf(t, base)
			l, _ := build(t, cached, dir, tc.base, changed...)
			if hits, misses := l.Hits(); hits != tc.hits || misses != tc.misses {
				t.Errorf("%d hits, %d misses; want %d, %d", hits, misses, tc.hits, tc.misses)
			}
			if name == "Base" || name == "Upload" {
				return // nothing came from the store
			}

			direct := copyOf(t, base)
			build(t, direct, t.TempDir(), "", changed...)
			epoch := time.Unix(1700000000, 0)
			if !bytes.Equal(content(t, direct, epoch), content(t, cached, epoch)) {
				t.Error("the tree differs from one that was built without the cache")
			}
		})
	}
}

func TestLayers_Start_Failure(t *testing.T) {
	base := rootFS(t)
	dir := filepath.Join(t.TempDir(), "layers")
	for range 2 {
		l, said := build(t, copyOf(t, base), dir, "base", "echo a", "echo b; exit 3", "echo c")
		if want := []string{"a\n||0", "b\n||3", "c\n||0"}; !slices.Equal(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
		if _, misses := l.Hits(); misses < 2 {
			t.Errorf("%d commands ran: a failed one, or one after it, was remembered", misses)
		}
	}
}

func TestLayers_Start_ScriptNames(t *testing.T) {
	base := rootFS(t)
	dir := filepath.Join(t.TempDir(), "layers")
	for i, name := range []string{"/tmp/script_1234.sh", "/tmp/script_77.sh"} {
		l := NewLayers(copyOf(t, base).Root, store.Store{Dir: dir}, "base")
		if err := l.Upload(name, strings.NewReader("#!/bin/sh\necho ran\n"), nil); err != nil {
			t.Fatal(err)
		}

		for _, command := range []string{"chmod 0755 " + name, name} {
			if _, stderr, status := sh(t, l, command); status != 0 {
				t.Fatalf("%s: %s", command, stderr)
			}
		}

		if i == 1 { // half of it cached: what was uploaded under one name is run under it
			if out, stderr, _ := sh(t, l, "X=1 "+name); out != "ran\n" {
				t.Errorf("got %q, %q", out, stderr)
			}
		}
		if hits, _ := l.Hits(); hits != 2*i {
			t.Errorf("build %d: %d hits, want %d", i, hits, 2*i)
		}
	}
}

func TestLayers_Start_Damaged(t *testing.T) {
	base := rootFS(t)
	dir := filepath.Join(t.TempDir(), "layers")
	build(t, copyOf(t, base), dir, "base", steps...)
	archives, err := filepath.Glob(filepath.Join(dir, "*", "*", "files", layerChanges))
	if err != nil || len(archives) != 3 {
		t.Fatalf("%v, %v", archives, err)
	}

	for _, damage := range []struct {
		name string
		of   func(content []byte) []byte
	}{
		{"Truncated", func(b []byte) []byte { return b[:len(b)/2] }},
		{"Poisoned", func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 1; return b }},
	} {
		t.Run(damage.name, func(t *testing.T) {
			for _, file := range archives {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, damage.of(b), 0o644); err != nil {
					t.Fatal(err)
				}
			}

			var named []string
			for want := range 2 { // the first of these builds repairs the store for the second
				st := store.Store{Dir: dir, Say: func(line string) { named = append(named, line) }}
				l := NewLayers(copyOf(t, base).Root, st, "base")
				buildOn(t, l, steps...)
				if hits, _ := l.Hits(); hits != 3*want {
					t.Errorf("%d hits, want %d", hits, 3*want)
				}
			}
			if len(named) != 3 || !strings.Contains(named[0], "layer-cat-in in the cache is damaged and is made again: "+layerChanges) {
				t.Errorf("the damage is named as %q", named)
			}
		})
	}
}

// TestLayers_Why: the store says what of a build made a command run again.
func TestLayers_Why(t *testing.T) {
	base, st := rootFS(t), store.Store{Dir: t.TempDir()}
	for _, content := range []string{"one", "other"} {
		build(t, copyOf(t, base), st.Dir, "base", "upload "+content, "cat /root/in")
	}
	_, _, differences, err := st.Why("layer-cat-in")
	if err != nil {
		t.Fatal(err)
	}
	if len(differences) != 1 || differences[0].Input != "upload /root/in" {
		t.Errorf("the differences are %+v", differences)
	}
}

func TestLayers_UploadDir(t *testing.T) {
	base := rootFS(t)
	dir, src := filepath.Join(t.TempDir(), "layers"), t.TempDir()
	file := filepath.Join(src, "f")
	for i, tc := range []struct {
		content string
		mode    fs.FileMode
		hits    int
	}{{"a", 0o644, 0}, {"a", 0o644, 1}, {"b", 0o644, 0}, {"a", 0o755, 0}, {"a", 0o644, 1}} {
		if err := errors.Join(os.WriteFile(file, []byte(tc.content), 0o644), os.Chmod(file, tc.mode),
			os.Chtimes(file, time.Now(), time.Unix(int64(1e9+i), 0))); err != nil {
			t.Fatal(err)
		}

		l := NewLayers(copyOf(t, base).Root, store.Store{Dir: dir}, "base")
		if err := l.UploadDir("/srv", src+"/", nil); err != nil {
			t.Fatal(err)
		}
		if out, stderr, _ := sh(t, l, "cat /srv/f"); out != tc.content {
			t.Errorf("%d: got %q, %q", i, out, stderr)
		}
		if hits, _ := l.Hits(); hits != tc.hits {
			t.Errorf("%d: %d hits, want %d", i, hits, tc.hits)
		}
	}
}

func TestLayers_Start_Stdin(t *testing.T) {
	base := rootFS(t)
	dir := filepath.Join(t.TempDir(), "layers")
	for _, fed := range []string{"x", "y"} {
		l := NewLayers(copyOf(t, base).Root, store.Store{Dir: dir}, "base")
		var out bytes.Buffer
		cmd := &packersdk.RemoteCmd{Command: "cat", Stdin: strings.NewReader(fed), Stdout: &out}
		if err := l.Start(t.Context(), cmd); err != nil {
			t.Fatal(err)
		}
		if status := cmd.Wait(); status != 0 || out.String() != fed {
			t.Errorf("got %q, status %d; want %q", out.String(), status, fed)
		}
	}
}

// TestLayers_Umask: a checkout of another umask makes the same layers and files.
func TestLayers_Umask(t *testing.T) {
	r := rootFS(t)
	other, dir := copyOf(t, r), t.TempDir()
	var trees [2]string
	for n, root := range []testRoot{r, other} {
		src := filepath.Join(t.TempDir(), "tree")
		mask := []fs.FileMode{0o022, 0o077}[n]
		if err := errors.Join(os.MkdirAll(src, 0o777&^mask), os.WriteFile(src+"/plain", []byte("x"), 0o600), os.Chmod(src+"/plain", 0o666&^mask)); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(src + "/plain")
		if err != nil {
			t.Fatal(err)
		}

		l := NewLayers(root.Root, store.Store{Dir: dir}, "base")
		if err := errors.Join(l.UploadDir("/srv", src, nil), l.Upload("/srv/one", strings.NewReader("y"), &fi)); err != nil {
			t.Fatal(err)
		}
		trees[n], _, _ = sh(t, l, "stat -c '%n %a' /srv/tree /srv/tree/plain /srv/one")
		if hits, misses := l.Hits(); hits != n || misses != 1-n {
			t.Errorf("umask %03o: %d hits, %d misses", mask, hits, misses)
		}
	}
	if want := "/srv/tree 755\n/srv/tree/plain 644\n/srv/one 644\n"; trees[0] != want || trees[1] != want {
		t.Errorf("modes %q, want %q", trees, want)
	}
}

// TestLayers_Times: a build whose layers are older than the epoch gives the bytes
// of one that has none.
func TestLayers_Times(t *testing.T) {
	r := rootFS(t)
	warm, cold, dir := copyOf(t, r), copyOf(t, r), t.TempDir()
	base := time.Now().Add(-time.Hour) // before all that commands write
	if err := errors.Join(r.Namespace.SetTimes(t.Context(), warm.Dir, time.Unix(0, 0), base), r.Namespace.SetTimes(t.Context(), cold.Dir, time.Unix(0, 0), base)); err != nil {
		t.Fatal(err)
	}
	build(t, copyOf(t, warm), dir, "base", steps...)
	time.Sleep(1100 * time.Millisecond)
	epoch := time.Now() // as of a commit after that build

	build(t, warm, dir, "base", steps...)
	time.Sleep(1100 * time.Millisecond)
	build(t, cold, t.TempDir(), "base", steps...)
	var archives [2][]byte
	for n, root := range []testRoot{warm, cold} {
		if err := r.Namespace.SetTimes(t.Context(), root.Dir, base, epoch); err != nil {
			t.Fatal(err)
		}
		archives[n] = content(t, root, epoch)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("layers of an earlier build give other bytes than commands that run")
	}
}

func TestListing_Compare(t *testing.T) {
	file := func(stamp string) entry { return entry{"f", stamp} }
	before := listing{"./same": file("1"), "./changed": file("1"), "./gone": file("1"), "./turned": file("1")}
	after := listing{"./same": file("1"), "./changed": file("2"), "./turned": {"d", "2"}, "./new": file("3")}
	changed, removed := before.compare(after)
	if want := []string{"./changed", "./new", "./turned"}; !slices.Equal(changed, want) {
		t.Errorf("changed %q, want %q", changed, want)
	}
	if want := []string{"./gone", "./turned"}; !slices.Equal(removed, want) {
		t.Errorf("removed %q, want %q", removed, want)
	}
}
