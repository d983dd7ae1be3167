package main

import (
	"bytes"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/rockpool/rootvm/images/oci"
	"github.com/rockpool/rootvm/images/oci/ocitest"
)

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"nothing", nil, 2, "usage: rockpool-release push"},
		{"unknown", []string{"x"}, 2, "usage"},
		{"unknown flag", []string{"push", "--tls"}, 2, "usage"},
		{"help", []string{"push", "--help"}, 0, "-plain-http"},
		{"push without a reference", []string{"push", "dir"}, 1, "a layout and a reference"},
		{"no reference", []string{"push", t.TempDir(), "A B"}, 1, "no reference to a registry"},
		{"no Tart artifact", []string{"push", "--tart", ocitest.Layout(t, "arm64"), "r.example/a:b"}, 1, "layers out of order"},
	} {
		var out, err bytes.Buffer
		code := run(t.Context(), c.args, strings.NewReader(""), &out, &err, func(string) string { return "" })
		if code != c.code || !strings.Contains(err.String(), c.says) || out.Len() > 0 {
			t.Errorf("%s: code %d, want %d; said %q", c.name, code, c.code, err.String())
		}
	}
}

// TestRun_Push pushes to a registry in this process that has no TLS.
func TestRun_Push(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	dir := ocitest.Layout(t, "amd64")
	// The user's own credentials may not be readable.
	env := map[string]string{"REGISTRY_AUTH_FILE": filepath.Join(t.TempDir(), "auth.json")}
	var err bytes.Buffer
	args := []string{"push", "--plain-http", dir, strings.TrimPrefix(server.URL, "http://") + "/rockpool/workspace:trixie"}
	if code := run(t.Context(), args, strings.NewReader(""), &bytes.Buffer{}, &err, func(name string) string { return env[name] }); code != 0 {
		t.Fatalf("code %d, said %q", code, err.String())
	}

	res, getErr := server.Client().Get(server.URL + "/v2/rockpool/workspace/manifests/trixie")
	if getErr != nil {
		t.Fatal(getErr)
	}
	res.Body.Close()
	want, digestErr := oci.Layout{Dir: dir}.Digest()
	if got := res.Header.Get("Docker-Content-Digest"); digestErr != nil || got != want {
		t.Errorf("the registry has %q, the layout %s, %v", got, want, digestErr)
	}
}
