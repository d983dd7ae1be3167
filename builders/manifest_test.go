package builders_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/builders"
)

func TestManifest_WriteRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.json")
	want := builders.Manifest{
		Name: "x", Suite: "trixie", DiskSize: 5, RootUUID: "u",
		Packages:  []builders.Package{{Name: "p", Version: "1", Architecture: "all", SHA256: "00", Size: 3}},
		Artifacts: []builders.Artifact{{File: "x.qcow2", Format: "qcow2", Size: 9, SHA256: "11"}},
		Steps:     []builders.Step{{Name: "s", Seconds: 1.5, Cached: true}},
	}
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}

	got, err := builders.ReadManifest(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}

	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("left %d files behind, want 1", len(entries))
	}
}

func TestReadManifest_Corrupt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.json")
	if err := os.WriteFile(path, []byte(`{"name":`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := builders.ReadManifest(path)
	if err == nil || !strings.Contains(err.Error(), "build the image again") {
		t.Errorf("error = %v", err)
	}
	if _, err := builders.ReadManifest(path + ".absent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error = %v", err)
	}
}

func TestDescribe_And_WriteChecksums(t *testing.T) {
	dir := t.TempDir()
	var m builders.Manifest
	for _, name := range []string{"b.qcow2", "a.vmlinuz"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("hello\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := builders.Describe(path, "f")
		if err != nil {
			t.Fatal(err)
		}
		m.Artifacts = append(m.Artifacts, a)
	}

	sums := filepath.Join(dir, "SHA256SUMS")
	if err := builders.WriteChecksums(sums, m); err != nil {
		t.Fatal(err)
	}

	got, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}

	// The digest is that of `printf 'hello\n' | sha256sum`.
	const digest = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
	if want := digest + "  a.vmlinuz\n" + digest + "  b.qcow2\n"; string(got) != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestStopwatch_Time(t *testing.T) {
	now := time.Unix(0, 0)
	w := builders.Stopwatch{Now: func() time.Time { now = now.Add(1500 * time.Millisecond); return now }}
	if err := w.Time("a", func() (bool, error) { return true, nil }); err != nil {
		t.Fatal(err)
	}
	if err := w.Time("b", func() (bool, error) { return false, errors.New("no") }); err == nil {
		t.Error("no error")
	}
	want := []builders.Step{{Name: "a", Seconds: 1.5, Cached: true}}
	if !reflect.DeepEqual(w.Steps, want) {
		t.Errorf("steps = %+v, want %+v", w.Steps, want)
	}
}

// TestStopwatch_Do says every task that is begun, and begins none after one that
// failed.
func TestStopwatch_Do(t *testing.T) {
	w := builders.Stopwatch{Now: func() time.Time { return time.Unix(0, 0) }}
	done := func() (bool, error) { return false, nil }
	failed := errors.New("no")
	var said strings.Builder
	err := w.Do(&said, builders.Task{Name: "a", Run: done}, builders.Task{Name: "b", Run: func() (bool, error) { return false, failed }}, builders.Task{Name: "c", Run: done})
	if !errors.Is(err, failed) || err.Error() != "b: no" {
		t.Errorf("error = %v", err)
	}
	if said.String() != "==> a\n==> b\n" || len(w.Steps) != 1 {
		t.Errorf("said %q, steps %+v", said.String(), w.Steps)
	}
}

// TestDescribeDirectory: each file has its path beside the manifest.
func TestDescribeDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x.tart")
	if err := os.MkdirAll(filepath.Join(dir, "blobs"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"index", "blobs/b", "blobs/a"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all, err := builders.DescribeDirectory(dir, "tart")
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %v", all, err)
	}
	for i, want := range []string{"x.tart/blobs/a", "x.tart/blobs/b", "x.tart/index"} {
		if a := all[i]; a.File != want || a.Format != "tart" || a.Size == 0 || len(a.SHA256) != 64 {
			t.Errorf("artifact %d is %+v, want %s", i, a, want)
		}
	}
	if _, err := builders.DescribeDirectory(filepath.Join(dir, "none"), "tart"); err == nil {
		t.Error("no error of a directory that is not there")
	}
}
