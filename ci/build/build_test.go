package build

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/ci/settings"
)

func pipeline(t *testing.T) (*Pipeline, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	spec := builders.Spec{SourceDateEpoch: 1}
	spec.FillDefaults()
	var out bytes.Buffer
	return &Pipeline{
		Settings: settings.Settings{Spec: spec, Source: dir, Dist: filepath.Join(dir, "dist"), CacheDir: filepath.Join(dir, "cache")},
		Out:      &out,
	}, &out
}

// finished lays out what Packer leaves behind.
func finished(t *testing.T, p *Pipeline, content string) string {
	t.Helper()
	out := t.TempDir()
	m := builders.Manifest{Name: p.Settings.Spec.Name(), InputDigest: content}
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
	sums, err := os.ReadFile(filepath.Join(p.Settings.Dist, "SHA256SUMS"))
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
	if err := os.MkdirAll(p.Settings.CacheDir, 0o755); err != nil {
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

func TestNeedSpace(t *testing.T) {
	if err := needSpace(t.TempDir(), 1, "x"); err != nil {
		t.Error(err)
	}
	err := needSpace(t.TempDir(), 1<<60, "set ROCKPOOL_CACHE")
	if err == nil || !strings.Contains(err.Error(), "set ROCKPOOL_CACHE") || !strings.Contains(err.Error(), "free and the build needs") {
		t.Errorf("error = %v", err)
	}
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

func TestDigestFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		d, err := digestFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := write("a", "1", 0o644)
	if write("a", "1", 0o644) != first {
		t.Error("the same files have two digests")
	}
	if write("a", "2", 0o644) == first || write("a", "1", 0o755) == first {
		t.Error("a change of content or mode is not seen")
	}
	if write("a", "1", 0o644) != first {
		t.Error("changed back, and the digest differs")
	}
	if write("b", "", 0o644) == first {
		t.Error("a new file is not seen")
	}
	if _, err := digestFiles(filepath.Join(dir, "absent")); err == nil {
		t.Error("no error for a missing directory")
	}
}

func TestHCLList(t *testing.T) {
	if got := hclList([]string{"a", `b"c`}); got != `["a","b\"c"]` {
		t.Errorf("got %s", got)
	}
	if got := hclList(nil); got != "[]" {
		t.Errorf("got %s", got)
	}
}
