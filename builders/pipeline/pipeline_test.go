package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rockpool/rootvm/builders"
)

func pipeline(t *testing.T) (*Pipeline, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	spec := builders.Spec{SourceDateEpoch: 1}
	spec.FillDefaults()
	var out bytes.Buffer
	return &Pipeline{Spec: spec, Source: dir, Dist: filepath.Join(dir, "dist"), CacheDir: filepath.Join(dir, "cache"), Out: &out}, &out
}

// finished lays out what Packer leaves behind.
func finished(t *testing.T, p *Pipeline, content string) string {
	t.Helper()
	out := t.TempDir()
	m := builders.Manifest{Name: p.Spec.Name(), InputDigest: content}
	for suffix, format := range map[string]string{".qcow2": "qcow2", ".vmlinuz": "kernel"} {
		path := filepath.Join(out, m.Name+suffix)
		if err := os.WriteFile(path, []byte(content+format), 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := builders.Describe(path, format)
		if err != nil {
			t.Fatal(err)
		}
		m.Artifacts = append(m.Artifacts, a)
	}
	if err := m.Write(filepath.Join(out, m.Name+".manifest.json")); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPipeline_Promote(t *testing.T) {
	p, _ := pipeline(t)
	if _, ok := p.Manifest(); ok {
		t.Error("an empty dist has a manifest")
	}
	for _, content := range []string{"first", "second"} {
		if _, err := p.promote(finished(t, p, content), []builders.Step{{Name: "before"}}); err != nil {
			t.Fatal(err)
		}
		m, ok := p.Manifest()
		if !ok || m.InputDigest != content || len(m.Steps) != 1 {
			t.Errorf("manifest = %+v, %v", m, ok)
		}
	}
	sums, err := os.ReadFile(filepath.Join(p.Dist, "SHA256SUMS"))
	if err != nil || strings.Count(string(sums), "\n") != 2 {
		t.Errorf("SHA256SUMS = %q, %v", sums, err)
	}
}

func TestPipeline_ManifestOfTruncatedImage(t *testing.T) {
	p, _ := pipeline(t)
	if _, err := p.promote(finished(t, p, "x"), nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(p.dist(".qcow2"), 1); err != nil {
		t.Fatal(err)
	}
	if _, ok := p.Manifest(); ok {
		t.Error("a truncated image counts as whole")
	}
}

func TestPipeline_LockWaits(t *testing.T) {
	p, out := pipeline(t)
	if err := os.MkdirAll(p.CacheDir, 0o755); err != nil {
		t.Fatal(err)
	}

	first, err := p.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second build got the lock: %v", err)
	}
	if !strings.Contains(out.String(), "waiting for another build") {
		t.Errorf("said %q", out)
	}

	first.Close()
	again, err := p.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestNewEnough(t *testing.T) {
	for answer, want := range map[string]bool{
		"Packer v1.15.1\n": true, "Packer v1.11.0": true, "Packer v2.0.0": true,
		"Packer v1.6.6": false, "Packer v0.12.0": false, "no packer": false, "": false,
	} {
		if got := newEnough(answer); got != want {
			t.Errorf("newEnough(%q) = %v", answer, got)
		}
	}
}

// TestWriteVariables: what Packer reads is what was meant, quotes included.
func TestWriteVariables(t *testing.T) {
	p, _ := pipeline(t)
	file := filepath.Join(t.TempDir(), "x.pkrvars.json")
	want := variables{Spec: p.Spec, Mirrors: []string{"a", `b"c`}, CacheDirectory: `/c "d"`}
	if err := writeVariables(file, want); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got variables
	if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

// TestPipeline_Inputs: whether an image is current is decided by all of the Spec
// and by every file that goes into the image.
func TestPipeline_Inputs(t *testing.T) {
	p, _ := pipeline(t)
	files := []string{
		filepath.Join(p.Source, "packer", "x"), filepath.Join(p.Source, "provision", "x"), filepath.Join(p.Source, "templates", "x"),
		filepath.Join(p.stage(), "x"), p.plugin(),
	}

	for _, file := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}

	digests := map[string]bool{}
	differs := func(what, workspaceImage string) {
		t.Helper()
		d, err := p.inputs(workspaceImage)
		if err != nil {
			t.Fatal(err)
		}
		if digests[d] {
			t.Errorf("%s does not count", what)
		}
		digests[d] = true
	}

	differs("nothing", "sha256:1")
	differs("the workspace image", "sha256:2")
	p.Spec.DiskSize++
	differs("the Spec", "sha256:2")
	for _, file := range files {
		if err := os.WriteFile(file, []byte("changed"), 0o644); err != nil {
			t.Fatal(err)
		}
		differs(file, "sha256:2")
	}
}

// TestMove_OtherFileSystem copies a file with a hole over an old one.
func TestMove_OtherFileSystem(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	if err := errors.Join(os.WriteFile(from, []byte("new"), 0o644), os.Truncate(from, 1<<20), os.WriteFile(to, []byte("old"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := copyOver(from, to); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(to)
	if err != nil || len(b) != 1<<20 || !strings.HasPrefix(string(b), "new\x00") {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if st, err := os.Stat(to); err != nil || st.Sys().(*syscall.Stat_t).Blocks*512 >= 1<<20 {
		t.Errorf("the hole was filled: %v", err)
	}
}
