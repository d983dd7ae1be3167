package pipeline

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/store"
	"github.com/rockpool/rootvm/builders/userns"
	"github.com/rockpool/rootvm/images"
)

// ofCheckout is a build of this checkout's workspace image.
func ofCheckout(t *testing.T, base string) *build {
	t.Helper()
	dir := t.TempDir()
	b := &build{
		Pipeline: Pipeline{Source: "../..", Dist: filepath.Join(dir, "dist"), CacheDir: filepath.Join(dir, "cache"), Out: io.Discard},
		spec:     images.Spec{Base: base, SourceDateEpoch: 1},
		packages: map[string]*bootstrap.PackageLock{},
	}
	b.spec.FillDefaults("linux/amd64")
	packages, err := bootstrap.LoadPackageLock(b.spec.Suite, "amd64", "workspace")
	if err != nil {
		t.Fatal(err)
	}
	b.packages["linux/amd64"] = packages
	return b
}

// TestBuild_InputDigest: the program that makes our own base counts, and
// only for that.
func TestBuild_InputDigest(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	digest := func(base, version string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bin, "mmdebstrap"), []byte("#!/bin/sh\necho mmdebstrap "+version+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		d, err := ofCheckout(t, base).inputDigest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return d
	}

	first := digest("", "1")
	if digest("", "1") != first {
		t.Error("the same inputs have two digests")
	}
	if digest("", "2") == first {
		t.Error("another mmdebstrap is not seen")
	}
	if digest("debian:13", "1") != digest("debian:13", "2") {
		t.Error("mmdebstrap counts also where it makes nothing")
	}
	if digest("debian:12", "1") == digest("debian:13", "1") {
		t.Error("another base is not seen")
	}
}

// TestDefinition: what shapes the base and npm's trees is part of the revision.
func TestDefinition(t *testing.T) {
	for _, file := range []string{"images/workspace/Containerfile", "builders/bootstrap/scripts/rootfs.sh", "builders/userns/tar.go", "builders/bootstrap/npm.go"} {
		if _, err := os.Stat(filepath.Join("../..", file)); err != nil {
			t.Error(err)
		}
		if !slices.ContainsFunc(definition, func(path string) bool { return file == path || strings.HasPrefix(file, path+"/") }) {
			t.Errorf("a change of %s does not make another revision", file)
		}
	}
}

// TestBuild_UpToDate: a tag may have moved, which nobody looked for.
func TestBuild_UpToDate(t *testing.T) {
	for base, tag := range map[string]bool{"": false, "registry.example/debian:13": true, "registry.example/debian@sha256:" + strings.Repeat("0", 64): false} {
		said := ofCheckout(t, base).upToDate()
		if !strings.Contains(said, "rockpool-workspace-trixie-amd64 is up to date") {
			t.Errorf("BASE=%s: said %q", base, said)
		}
		if got := strings.Contains(said, "only the name "+base) && strings.Contains(said, "FORCE=1 "); got != tag {
			t.Errorf("BASE=%s: said %q", base, said)
		}
	}
}

// TestBuild_RunInterrupted runs a script in the builder's place: it has its
// temporary files in the cache and may clean up.
func TestBuild_RunInterrupted(t *testing.T) {
	if _, err := userns.New(); err != nil {
		t.Skipf("no namespaces on this machine: %v", err)
	}

	b := ofCheckout(t, "")
	if err := os.MkdirAll(filepath.Dir(b.builder()), 0o755); err != nil {
		t.Fatal(err)
	}

	script := "#!/bin/sh\ntrap 'echo cleaned up >&2; exit 1' TERM\necho $TMPDIR >&2\nwhile :; do sleep 0.1; done\n"
	if err := os.WriteFile(b.builder(), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}

	r, out := io.Pipe()
	b.Out = out
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := b.runBuilder(ctx, nil, images.Request{Scratch: "/a/scratch"})
		out.Close()
		ended <- err
	}()

	var said []string
	for lines := bufio.NewScanner(r); lines.Scan(); cancel() {
		said = append(said, lines.Text())
	}

	if len(said) == 0 || said[0] != "/a/scratch" || !slices.Contains(said, "cleaned up") {
		t.Errorf("the builder said %q", said)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "are kept") {
		t.Errorf("error = %v", err)
	}
}

// TestBuild_Bill: the bill says so when it does not list everything.
func TestBuild_Bill(t *testing.T) {
	for base, whole := range map[string]bool{"": true, "registry.example/debian:13": false} {
		bill, err := ofCheckout(t, base).bill("linux/amd64", "sha256:0")
		if err != nil {
			t.Fatal(err)
		}
		lists := func(url string) bool {
			return slices.ContainsFunc(bill.Packages, func(p images.Package) bool { return strings.HasPrefix(p.URL, url) })
		}
		if got := lists("pkg:deb/debian/git@"); got != whole || !lists("pkg:npm/code-server@") {
			t.Errorf("BASE=%s: Debian's packages are listed: %v, want %v", base, got, whole)
		}
		if said := strings.Contains(bill.Comment, "not listed: they are those of registry.example/debian:13 "); said == whole {
			t.Errorf("BASE=%s: the comment is %q", base, bill.Comment)
		}
	}
}

// TestBuild_Says: what a build of the workspace image finds damaged in the cache,
// and that it turns to the snapshot archive, is told.
func TestBuild_Says(t *testing.T) {
	mirror := httptest.NewServer(http.NotFoundHandler()) // it has moved on
	defer mirror.Close()
	const movedOn = "  the mirrors have moved on since the package lock was made"
	moved := func(t *testing.T) (*build, *strings.Builder) {
		var out strings.Builder
		b := ofCheckout(t, "")
		b.Mirrors, b.Out = []string{mirror.URL + "/debian", mirror.URL + "/archive/debian"}, &out
		return b, &out
	}

	t.Run("base", func(t *testing.T) {
		b, out := moved(t)
		if _, err := b.bases(t.Context(), out, map[string]images.Base{}); err == nil || !strings.Contains(out.String(), movedOn) {
			t.Errorf("error %v, it said %q", err, out)
		}
	})
	t.Run("tools", func(t *testing.T) {
		b, out := moved(t)
		r := b.request()
		if _, err := b.contexts(t.Context(), &r); err == nil || !strings.Contains(out.String(), movedOn) {
			t.Errorf("error %v, it said %q", err, out)
		}
	})
	t.Run("damage", func(t *testing.T) {
		b, out := moved(t)
		recipe := store.Recipe{Step: "npm", Inputs: []store.Input{{Name: "lock", Digest: "1"}}}
		made := func(_ context.Context, dir string) error {
			return os.WriteFile(filepath.Join(dir, "file"), []byte("whole"), 0o644)
		}
		dir, _, err := b.cache(out).Store().Make(t.Context(), recipe, made)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte("damaged"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.cache(out).Store().Make(t.Context(), recipe, made); err != nil || !strings.Contains(out.String(), "  npm in the cache is damaged and is made again") {
			t.Errorf("error %v, it said %q", err, out)
		}
	})
}
