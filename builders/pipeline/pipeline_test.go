package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/toolchain"
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
	for _, file := range []struct{ suffix, format string }{
		{".qcow2", "qcow2"}, {".vmlinuz", "kernel"}, {".tart/config.json", "tart"}, {".tart/disk.img", "tart"},
		{".tart.oci/blobs/sha256/" + content, "tart-oci"}, {".tart.oci/index.json", "tart-oci"},
	} {
		path := filepath.Join(out, m.Name+file.suffix)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content+file.format), 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := builders.Describe(path, file.format)
		if err != nil {
			t.Fatal(err)
		}
		a.File = m.Name + file.suffix
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
		if _, err := p.promote(finished(t, p, content), []builders.Step{{Name: "before"}}, origin{sources: "sources"}); err != nil {
			t.Fatal(err)
		}
		m, ok := p.Manifest()
		if !ok || m.InputDigest != content || len(m.Steps) != 1 {
			t.Errorf("manifest = %+v, %v", m, ok)
		}
	}
	sums, err := os.ReadFile(filepath.Join(p.Dist, "SHA256SUMS"))
	if err != nil || strings.Count(string(sums), "\n") != 6 {
		t.Errorf("SHA256SUMS = %q, %v", sums, err)
	}
}

func TestPipeline_ManifestOfTruncatedImage(t *testing.T) {
	p, _ := pipeline(t)
	if _, err := p.promote(finished(t, p, "x"), nil, origin{}); err != nil {
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

	before, err := p.inputs("sha256:2")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(p.Source, "provision", "x_test.go"), "package x")
	writeFile(t, filepath.Join(p.Source, "templates", "testdata", "golden"), "x")
	if after, err := p.inputs("sha256:2"); err != nil || after != before {
		t.Errorf("a test counts: %v", err)
	}
	if err := os.Symlink("nobody@nowhere", filepath.Join(p.Source, "packer", ".#x")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.inputs("sha256:2"); err != nil {
		t.Errorf("an editor's lock: %v", err)
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

// TestMadeFrom: every package of this module that is compiled into the image, or
// into a program that shapes it, counts among what the image is made from.
func TestMadeFrom(t *testing.T) {
	const module = "github.com/rockpool/rootvm/"
	list := exec.Command("go", "list", "-deps", "-tags", toolchain.PodmanTags, "./cmd/rockpool-agent", "./cmd/packer-plugin-rootvm")
	workspace := exec.Command("go", "list", "-deps", "-tags", toolchain.Tags, "./cmd/workspace-image")
	for _, cmd := range []*exec.Cmd{list, workspace} {
		cmd.Dir = "../.."
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		own := 0
		for pkg := range strings.Lines(string(out)) {
			dir, ok := strings.CutPrefix(strings.TrimSpace(pkg), module)
			if !ok {
				continue
			}
			own++
			if !slices.ContainsFunc(madeFrom, func(path string) bool { return dir == path || strings.HasPrefix(dir, path+"/") }) {
				t.Errorf("%s does not count", dir)
			}
		}
		if own == 0 {
			t.Errorf("%q: no package of ours", cmd.Args)
		}
	}
}

// checkout makes the pipeline's source a git checkout with a file in everything
// that an image is made from.
func checkout(t *testing.T, p *Pipeline) {
	t.Helper()
	for _, path := range madeFrom {
		file := filepath.Join(p.Source, path)
		if filepath.Ext(path) == "" {
			file = filepath.Join(file, "file")
		}
		writeFile(t, file, "one")
	}
	writeFile(t, filepath.Join(p.Source, ".gitignore"), "/dist/\n/cache/\n")
	runGit(t, p.Source, "init", "-q")
	commit(t, p.Source)
}

func commit(t *testing.T, dir string) {
	t.Helper()
	runGit(t, dir, "add", "-A")
	runGit(t, dir, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-q", "--allow-empty", "-m", "x")
}

func runGit(t *testing.T, dir string, args ...string) {
	t.Helper()
	if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
}

func writeFile(t *testing.T, file, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// TestPipeline_Older: the time in the image is fixed, so what decides is what the
// image is made from.
func TestPipeline_Older(t *testing.T) {
	p, _ := pipeline(t)
	checkout(t, p)
	build := func() builders.Manifest { // as far as this matters
		t.Helper()
		now, err := p.origin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m, err := p.confirm(builders.Manifest{}, now)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if err := os.MkdirAll(p.Dist, 0o755); err != nil {
		t.Fatal(err)
	}
	m := build()
	older := func(what string, want bool) {
		t.Helper()
		if note := p.Older(t.Context(), m); (note != "") != want {
			t.Errorf("%s: %q", what, note)
		}
	}
	older("nothing", false)
	commit(t, p.Source)
	older("an empty commit", false)
	writeFile(t, filepath.Join(p.Source, "README.md"), "words")
	commit(t, p.Source)
	older("a commit of a document", false)
	writeFile(t, filepath.Join(p.Source, "agent", "x_test.go"), "package x")
	older("a test", false)
	if err := os.Symlink("nobody@nowhere", filepath.Join(p.Source, "agent", ".#x")); err != nil {
		t.Fatal(err)
	}
	older("an editor's lock", true)
	if err := os.Remove(filepath.Join(p.Source, "agent", ".#x")); err != nil {
		t.Fatal(err)
	}

	for _, path := range []string{"agent/file", "provision/new", "go.sum"} {
		writeFile(t, filepath.Join(p.Source, path), "changed")
		older(path, true)
		m = build()
		older(path+", built", false)
		writeFile(t, filepath.Join(p.Source, path), "changed again")
		older(path+", changed once more in a changed checkout", true)
		commit(t, p.Source)
		m = build()
	}
	p.Spec.DiskSize++
	older("a setting", true)
	p.Spec.DiskSize--
	p.WorkspaceImage.Base = "example.org/debian"
	older("a setting of the workspace image", true)
	p.WorkspaceImage.Base = ""
	older("the settings as they were", false)
	if err := os.RemoveAll(filepath.Join(p.Source, ".git")); err != nil {
		t.Fatal(err)
	}
	older("a checkout without git", false)
	writeFile(t, filepath.Join(p.Source, "agent", "file"), "changed without git")
	older("a change that git does not see", true)
}

// TestPipeline_confirm: a build that finds nothing to do ends the note of `up`.
func TestPipeline_confirm(t *testing.T) {
	p, _ := pipeline(t)
	checkout(t, p)
	if _, err := p.promote(finished(t, p, "x"), nil, origin{sources: "the sources before"}); err != nil {
		t.Fatal(err)
	}
	m, _ := p.Manifest()
	if p.Older(t.Context(), m) == "" {
		t.Fatal("is not older")
	}
	now, err := p.origin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.confirm(m, now); err != nil {
		t.Fatal(err)
	}
	if m, ok := p.Manifest(); !ok || p.Older(t.Context(), m) != "" || m.InputDigest != "x" {
		t.Errorf("%+v, %v", m, ok)
	}
}

// TestPipeline_sameOrigin: a build has nothing to do only when all that shapes the
// image is as it was, and the image and the workspace image are there.
func TestPipeline_sameOrigin(t *testing.T) {
	p, _ := pipeline(t)
	made := origin{sources: "a", compilers: "b"}
	if _, err := p.promote(finished(t, p, "x"), nil, made); err != nil {
		t.Fatal(err)
	}
	current := func(context.Context) (bool, error) { return true, nil }

	if m, same := p.sameOrigin(t.Context(), made, current); !same || m.InputDigest != "x" {
		t.Errorf("nothing changed: %v, %+v", same, m)
	}
	for name, o := range map[string]origin{"sources": {sources: "A", compilers: "b"}, "compilers": {sources: "a", compilers: "B"}} {
		if _, same := p.sameOrigin(t.Context(), o, current); same {
			t.Errorf("other %s go unnoticed", name)
		}
	}
	if _, same := p.sameOrigin(t.Context(), made, func(context.Context) (bool, error) { return false, nil }); same {
		t.Error("another workspace image goes unnoticed")
	}
	if _, same := p.sameOrigin(t.Context(), made, func(context.Context) (bool, error) { return true, errors.New("no lock") }); same {
		t.Error("an unknown workspace image counts as current")
	}

	p.Force = true
	if _, same := p.sameOrigin(t.Context(), made, current); same {
		t.Error("FORCE finds nothing to do")
	}
	p.Force = false
	if err := os.Truncate(p.dist(".qcow2"), 1); err != nil {
		t.Fatal(err)
	}
	if _, same := p.sameOrigin(t.Context(), made, current); same {
		t.Error("a truncated image counts as whole")
	}
}

// TestPipeline_Checks_space: space is asked for only when something is to be
// built, and README and doctor name the figure that the build does.
func TestPipeline_Checks_space(t *testing.T) {
	figure := fmt.Sprintf("%d GiB", builders.BuildSpace/builders.GiB)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "for building, "+figure+" of free disk") {
		t.Errorf("README does not name %s", figure)
	}

	p, _ := pipeline(t)
	checkout(t, p)
	said := func() string {
		for _, c := range p.Checks(t.Context()) {
			if c.Name == "space to build" {
				return c.Text + fmt.Sprint(c.Err)
			}
		}
		return ""
	}
	if got := said(); !strings.Contains(got, figure) && !strings.Contains(got, "the build needs") {
		t.Errorf("without an image: %q", got)
	}
	sources, err := p.sourceDigest()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.promote(finished(t, p, "x"), nil, origin{sources: sources}); err != nil {
		t.Fatal(err)
	}
	if got := said(); !strings.HasPrefix(got, "nothing to build") {
		t.Errorf("with the image: %q", got)
	}
}
