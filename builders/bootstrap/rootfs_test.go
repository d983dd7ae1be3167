package bootstrap

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/userns"
)

func TestFetcher_Repository(t *testing.T) {
	f := &Fetcher{Cache: Cache{Dir: t.TempDir()}}
	l := testLock(t)
	dir := filepath.Join(t.TempDir(), "repository")
	if err := f.repository(l, dir); err == nil || !strings.Contains(err.Error(), "fetch the packages first") {
		t.Errorf("got %v with an empty cache, want an error that says what to do", err)
	}
	if err := os.MkdirAll(filepath.Join(f.Dir, "debs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.deb(l.packages[0].get("SHA256")), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := f.repository(l, dir); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "hello_1%3a2.10-3_amd64.deb")); err != nil || string(b) != "hello" {
		t.Errorf("package file %q, %v", b, err)
	}

	index, err := os.ReadFile(filepath.Join(dir, "Packages"))
	if err != nil {
		t.Fatal(err)
	}

	release, err := os.ReadFile(filepath.Join(dir, "Release"))
	if err != nil {
		t.Fatal(err)
	}

	for _, want := range []string{"Codename: trixie\n", fmt.Sprintf(" %x %d Packages\n", sha256.Sum256(index), len(index))} {
		if !strings.Contains(string(release), want) {
			t.Errorf("the Release file lacks %q:\n%s", want, release)
		}
	}
}

func TestTarVerified(t *testing.T) {
	ns, err := userns.New()
	if err != nil {
		t.Skipf("no namespaces on this machine: %v", err)
	}

	tree, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "f"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(dir, "x.tar")
	if err := tarVerified(t.Context(), ns, tree, file, time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}

	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	flipped := slices.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for name, tc := range map[string]struct {
		content []byte
		want    error
	}{"Whole": {whole, nil}, "Half": {whole[:len(whole)/2], errCorrupt}, "Empty": {nil, errCorrupt}, "Flipped": {flipped, errCorrupt}} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, tc.content, 0o644); err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(t.TempDir(), "out")
			if err := untarVerified(t.Context(), ns, file, out); !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			b, err := os.ReadFile(filepath.Join(out, "f"))
			if (err == nil) != (tc.want == nil) || err == nil && string(b) != "content" {
				t.Errorf("extracted %q, %v", b, err)
			}
		})
	}
}

func TestRemoveAbandoned(t *testing.T) {
	ns, err := userns.New()
	if err != nil {
		t.Skipf("no namespaces on this machine: %v", err)
	}

	dir := t.TempDir()
	for _, name := range []string{"dead.work/root", "alive.work/root"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}

	unlock, err := builders.LockFile(t.Context(), filepath.Join(dir, "alive.lock"))
	if err != nil {
		t.Fatal(err)
	}

	defer unlock()
	if err := removeAbandoned(ns, dir); err != nil {
		t.Fatal(err)
	}

	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}

	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	if want := []string{"alive.lock", "alive.work", "dead.lock"}; !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
}
