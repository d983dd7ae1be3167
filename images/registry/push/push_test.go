package push

import (
	"context"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	server "github.com/google/go-containerregistry/pkg/registry"

	"github.com/rockpool/rootvm/images/oci"
	"github.com/rockpool/rootvm/images/oci/ocitest"
	"github.com/rockpool/rootvm/images/registry"
)

// TestPush pushes to a registry in this process and asks it for the digest.
func TestPush(t *testing.T) {
	server := httptest.NewServer(server.New())
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for _, architectures := range [][]string{{"amd64"}, {"amd64", "arm64"}} {
		dir := ocitest.Layout(t, architectures...)
		name := fmt.Sprintf("rockpool/workspace-%d", len(architectures))
		if err := Push(t.Context(), dir, registry.Remote{Reference: host + "/" + name + ":trixie", PlainHTTP: true, AuthFile: noCredentials(t)}); err != nil {
			t.Fatal(err)
		}

		res, err := server.Client().Get(server.URL + "/v2/" + name + "/manifests/trixie")
		if err != nil {
			t.Fatal(err)
		}

		res.Body.Close()
		want, err := oci.Layout{Dir: dir}.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if got := res.Header.Get("Docker-Content-Digest"); got != want {
			t.Errorf("%v: the registry has %q, the layout %s", architectures, got, want)
		}
	}
}

// noCredentials is a file of credentials that is not there: the user's own may
// not be readable.
func noCredentials(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "auth.json")
}

func TestPush_Faults(t *testing.T) {
	dir := ocitest.Layout(t, "amd64")
	server := httptest.NewServer(nil)
	server.Close() // nobody listens there any more
	closed := strings.TrimPrefix(server.URL, "http://")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, c := range []struct {
		name, layout, reference, want string
	}{
		{"no reference", dir, "Not A Reference", "is no reference to a registry"},
		{"unreachable", dir, closed + "/a:b", "push to " + closed},
		{"no layout", t.TempDir(), closed + "/a:b", "no such file"},
	} {
		err := Push(ctx, c.layout, registry.Remote{Reference: c.reference, PlainHTTP: true, AuthFile: noCredentials(t)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}
