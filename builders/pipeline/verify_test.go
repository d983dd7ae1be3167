package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/contents"
	"github.com/rockpool/rootvm/builders/provenance"
)

func TestPipeline_VerifyFile(t *testing.T) {
	p, out := pipeline(t)
	if _, err := p.promote(finished(t, p, "x"), nil, origin{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(t.Context(), []string{p.dist(".manifest.json")}); err != nil || !strings.Contains(out.String(), "is what its manifest says: 6 files") {
		t.Fatalf("%v, said %q", err, out)
	}

	if err := os.WriteFile(p.dist(".vmlinuz"), []byte("xkerneL"), 0o644); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	err := p.Verify(t.Context(), []string{p.dist(".vmlinuz")})
	if err == nil || !strings.Contains(err.Error(), "is not what its manifest says: 1 differences") || !strings.Contains(out.String(), ".vmlinuz: its SHA-256 is ") {
		t.Errorf("another kernel: %v, said %q", err, out)
	}
	for _, args := range [][]string{{"a", "b"}, {"--manifest", "x"}, {filepath.Join(p.Dist, "none.qcow2")}, {"SHA256SUMS"}} {
		if err := p.Verify(t.Context(), args); err == nil {
			t.Errorf("rootvm:verify %q did not fail", args)
		}
	}
}

func TestPipeline_VerifyAgainNeedsAnImage(t *testing.T) {
	p, _ := pipeline(t)
	if err := p.Verify(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "dist has no whole image") {
		t.Errorf("without an image: %v", err)
	}
}

// TestDifferences compares two builds, of which one has another file on its disk.
func TestDifferences(t *testing.T) {
	build := func(sum string) (string, builders.Manifest) {
		dir := t.TempDir()
		list := contents.List{DiskSize: 1 << 20, Regions: []contents.Region{
			{Part: "root", Kind: contents.File, Name: "/etc/hosts", SHA256: sum, Mode: "100644"},
		}}
		if err := list.Write(filepath.Join(dir, "image"+contents.Suffix)); err != nil {
			t.Fatal(err)
		}
		a, err := builders.Describe(filepath.Join(dir, "image"+contents.Suffix), contents.Format)
		if err != nil {
			t.Fatal(err)
		}
		return dir, builders.Manifest{Artifacts: []builders.Artifact{a, {File: "image.qcow2", Format: "qcow2", SHA256: sum}}}
	}
	dirA, a := build("aa")
	dirB, b := build("bb")
	for _, c := range []struct {
		dir  string
		m    builders.Manifest
		want []string
	}{
		{dirA, a, nil},
		{dirB, b, []string{"image.contents.zst: its SHA-256", "image.qcow2: its SHA-256", "partition root: file /etc/hosts: its content is another one"}},
		{dirA, builders.Manifest{Artifacts: a.Artifacts[:1]}, []string{"image.qcow2: is missing"}},
	} {
		faults, err := differences(dirA, a, c.dir, c.m)
		if err != nil || len(faults) != len(c.want) {
			t.Fatalf("faults %v, %v, want %q", faults, err, c.want)
		}
		for i, f := range faults {
			if !strings.HasPrefix(f.Error(), c.want[i]) {
				t.Errorf("fault %q, want %s…", f.Error(), c.want[i])
			}
		}
	}
}

// TestPipeline_Provenance: the statement names what this checkout builds from, is
// the same each time, and is part of what is verified.
func TestPipeline_Provenance(t *testing.T) {
	p, out := pipeline(t)
	p.Source = "../.."
	from := origin{sources: strings.Repeat("5", 64), compilers: strings.Repeat("6", 64)}
	parts := made{workspaceDigest: "sha256:" + strings.Repeat("7", 64)}
	var statements []string
	for range 2 {
		dir := finished(t, p, "x")
		path := filepath.Join(dir, p.Spec.Name()+".manifest.json")
		m, err := builders.ReadManifest(path)
		if err != nil {
			t.Fatal(err)
		}
		m.InputDigest, m.LockDigest = strings.Repeat("8", 64), strings.Repeat("9", 64)
		if err := m.Write(path); err != nil {
			t.Fatal(err)
		}
		if err := p.addProvenance(t.Context(), dir, parts, from); err != nil {
			t.Fatal(err)
		}
		if _, err := p.promote(dir, nil, from); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(p.dist(provenance.Suffix))
		if err != nil {
			t.Fatal(err)
		}
		statements = append(statements, string(content))
	}
	if statements[0] != statements[1] {
		t.Error("two statements on the same files differ")
	}
	for _, want := range []string{"workspace image", "package lock of tools", "npm lock of images/workspace/vscode", "go.sum", strings.Repeat("6", 64)} {
		if !strings.Contains(statements[0], want) {
			t.Errorf("the statement lacks %s", want)
		}
	}
	if err := p.Verify(t.Context(), []string{p.dist(".manifest.json")}); err != nil {
		t.Fatal(err)
	}

	// A manifest that was exchanged together with the statement's digest.
	m, _ := p.Manifest()
	m.LockDigest = strings.Repeat("1", 64)
	if err := m.Write(p.dist(".manifest.json")); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := p.Verify(t.Context(), []string{p.dist(".manifest.json")}); err == nil || !strings.Contains(out.String(), "provenance: its package lock is 999") {
		t.Errorf("another lock: %v, said %q", err, out)
	}
}
