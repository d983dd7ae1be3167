package pipeline

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/tart"
)

// TestPipeline_PushFaults: what is wrong is told before anything is compiled.
func TestPipeline_PushFaults(t *testing.T) {
	p, _ := pipeline(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "needs one reference"},
		{[]string{"a:b", "c:d"}, "needs one reference"},
		{[]string{"a:b"}, "make it with `SUITE=trixie ARCH=arm64 FORMATS=tart go tool mage rootvm:build`"},
		{[]string{"--tls", "a:b"}, "tls"},
	} {
		if err := p.Push(t.Context(), c.args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want %q", c.args, err, c.want)
		}
	}
}

// TestPipeline_Push pushes an image in dist/ to a registry in this process, with
// the program that is compiled for it; one that is damaged does not get there.
func TestPipeline_Push(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles rockpool-release")
	}
	p, out := pipeline(t)
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	p.Source, p.PlainHTTP = source, true
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(t.TempDir(), "auth.json"))

	arm := *p
	arm.Spec.Architecture = "arm64"
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(p.Dist, 0o755); err != nil {
		t.Fatal(err)
	}
	layout := arm.dist(".tart.oci")
	if err := tart.New(arm.Spec, raw).WriteLayout(t.Context(), layout); err != nil {
		t.Fatal(err)
	}
	m := builders.Manifest{Name: arm.Spec.Name()}
	if m.Artifacts, err = builders.DescribeDirectory(layout, builders.TartArtifactFormat); err != nil {
		t.Fatal(err)
	}
	if err := m.Write(arm.dist(".manifest.json")); err != nil {
		t.Fatal(err)
	}

	server := httptest.NewServer(registry.New())
	defer server.Close()
	reference := strings.TrimPrefix(server.URL, "http://") + "/rockpool/root:trixie"
	if err := p.Push(t.Context(), []string{reference}); err != nil {
		t.Fatalf("%v; said %s", err, out)
	}
	res, err := server.Client().Get(server.URL + "/v2/rockpool/root/manifests/trixie")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if digest := res.Header.Get("Docker-Content-Digest"); digest == "" || !strings.Contains(out.String(), "100 %") {
		t.Errorf("the registry has %q; said %s", digest, out)
	}

	for _, a := range m.Artifacts {
		if strings.Contains(a.File, "blobs") && a.Size == 131072 { // nvram.bin
			if err := os.WriteFile(filepath.Join(p.Dist, a.File), make([]byte, a.Size), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Push(t.Context(), []string{reference + "2"}); err == nil || !strings.Contains(out.String(), "wrong digest") {
		t.Errorf("a damaged artifact: %v; said %s", err, out)
	}
}
