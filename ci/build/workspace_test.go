package build

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/userns"
	"github.com/rockpool/rootvm/images"
)

// ofCheckout is a build of this checkout's workspace image.
func ofCheckout(t *testing.T, base string) *workspace {
	t.Helper()
	p, _ := pipeline(t)
	p.Settings.Source = "../.."
	w := &workspace{Pipeline: p, spec: images.Spec{Base: base, SourceDateEpoch: 1}, locks: map[string]*bootstrap.PackageLock{}}
	w.spec.FillDefaults("linux/amd64")
	lock, err := bootstrap.Lock(w.spec.Suite, "amd64", "workspace")
	if err != nil {
		t.Fatal(err)
	}
	w.locks["linux/amd64"] = lock
	return w
}

// TestWorkspace_InputDigest: the program that makes our own base counts, and
// only for that.
func TestWorkspace_InputDigest(t *testing.T) {
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

func TestPipeline_NodeKey(t *testing.T) {
	p, _ := pipeline(t)
	foreign := map[string]string{"amd64": "arm64", "arm64": "amd64"}[hostArchitecture()]
	write := func(dir, content string) {
		t.Helper()
		dir = filepath.Join(p.Settings.Source, dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "package-lock.json"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	keys := func() (own, other string) {
		t.Helper()
		var all [2]string
		for i, architecture := range []string{hostArchitecture(), foreign} {
			var err error
			if all[i], err = p.nodeKey("a", architecture); err != nil {
				t.Fatal(err)
			}
		}
		return all[0], all[1]
	}
	write("a", "1")
	write(nodeSource, "1")
	own, other := keys()
	if own == other {
		t.Error("two architectures have one tree")
	}
	write(nodeSource, "2")
	if again, later := keys(); again != own || later == other {
		t.Error("want another tree for the other architecture, whose npm is another, and for that only")
	}
	write("a", "2")
	if again, _ := keys(); again == own {
		t.Error("another lock is not seen")
	}
	if lock, err := digestFiles(filepath.Join(p.Settings.Source, "a")); err != nil || own == lock {
		t.Errorf("the key is that of the lock alone: %v", err)
	}
}

// TestDefinition: what shapes the base and npm's trees is part of the revision.
func TestDefinition(t *testing.T) {
	for _, file := range []string{"images/workspace/Containerfile", "builders/bootstrap/scripts/rootfs.sh", "builders/userns/tar.go", "ci/build/npm.go"} {
		if _, err := os.Stat(filepath.Join("../..", file)); err != nil {
			t.Error(err)
		}
		if !slices.ContainsFunc(definition, func(path string) bool { return file == path || strings.HasPrefix(file, path+"/") }) {
			t.Errorf("a change of %s does not make another revision", file)
		}
	}
}

// TestWorkspace_UpToDate: a tag may have moved, which nobody looked for.
func TestWorkspace_UpToDate(t *testing.T) {
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

// TestWorkspace_RunInterrupted runs a script in the builder's place: it has its
// temporary files in the cache and may clean up.
func TestWorkspace_RunInterrupted(t *testing.T) {
	if _, err := userns.New(); err != nil {
		t.Skipf("no namespaces on this machine: %v", err)
	}
	w := ofCheckout(t, "")
	if err := os.MkdirAll(filepath.Dir(w.program()), 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\ntrap 'echo cleaned up >&2; exit 1' TERM\necho $TMPDIR >&2\nwhile :; do sleep 0.1; done\n"
	if err := os.WriteFile(w.program(), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	r, out := io.Pipe()
	w.Out = out
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := w.run(ctx, nil, images.Request{Scratch: "/a/scratch"})
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

// TestWorkspace_SBOM: the bill says so when it does not list everything.
func TestWorkspace_SBOM(t *testing.T) {
	for base, whole := range map[string]bool{"": true, "registry.example/debian:13": false} {
		w := ofCheckout(t, base)
		if err := os.MkdirAll(w.Settings.Dist, 0o755); err != nil {
			t.Fatal(err)
		}
		a, err := w.sbom("linux/amd64", "sha256:0")
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(w.Settings.Dist, a.File))
		if err != nil {
			t.Fatal(err)
		}
		var bill struct{ Comment string }
		if err := json.Unmarshal(b, &bill); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(b), "pkg:deb/debian/git@"); got != whole || !strings.Contains(string(b), "pkg:npm/code-server@") {
			t.Errorf("BASE=%s: Debian's packages are listed: %v, want %v", base, got, whole)
		}
		if said := strings.Contains(bill.Comment, "not listed: they are those of registry.example/debian:13 "); said == whole {
			t.Errorf("BASE=%s: the comment is %q", base, bill.Comment)
		}
	}
}
