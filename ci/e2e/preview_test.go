//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// listens are where the applications of the tests listen, by port.
var listens = map[int]string{3001: "127.0.0.1", 3002: "::1", 3003: "0.0.0.0", 3004: "::"}

// previewsTest looks at applications on every kind of address of a workspace in
// which they run, as the program of that name, with paths that proxies like to
// change, and ends with the ports as they were.
func previewsTest(t *testing.T, i *instance, w remote, program string) {
	password := i.login(t)
	var listed []struct {
		Port      int
		Program   string
		Addresses []string
	}
	eventually(t, readyLimit, "the applications", func() bool {
		status, body := i.ask(t, "GET", "/api/workspaces/"+w.ID+"/listening", nil)
		if err := json.Unmarshal([]byte(body), &listed); status != http.StatusOK || err != nil {
			t.Fatalf("what listens: %d %s", status, body)
		}
		return len(listed) >= len(listens)
	})
	for _, l := range listed {
		if want, ours := listens[l.Port]; l.Port == 8080 || ours && (l.Program != program || !slices.Equal(l.Addresses, []string{want})) {
			t.Errorf("listed: %+v, want %q at %q", l, program, want)
		}
	}

	base := "/workspace/" + w.Name + "/port/"
	for port, address := range listens {
		i.api(t, "POST", "/api/workspaces/"+w.ID+"/ports", map[string]any{"port": port}, http.StatusCreated)
		for _, path := range []string{"/", "//a//b%2F%2Fc//?q=//%2F", "/https://example.org/%2Fx"} {
			for _, method := range []string{"GET", "POST"} {
				res, body := i.exchange(t, 2, method, base+strconv.Itoa(port)+path, password)
				if res.StatusCode != http.StatusOK || res.Header.Get("X-Listens") != address || !strings.HasPrefix(body, "preview "+path+" ") {
					t.Errorf("%s %s at %s: %d from %q, %.200q", method, path, address, res.StatusCode, res.Header.Get("X-Listens"), body)
				}
			}
		}
		c := i.dialPreview(t, base+strconv.Itoa(port)+"//socket%2F")
		expectEcho(t, c, "hello")
		_ = c.CloseNow()
	}

	i.api(t, "DELETE", "/api/workspaces/"+w.ID+"/ports/3004", nil, http.StatusNoContent)
	i.api(t, "POST", "/api/workspaces/"+w.ID+"/ports", map[string]any{"port": 3999}, http.StatusCreated)
	if res, body := i.get(t, 2, base+"3999/", password); res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "Nothing answers on this port") {
		t.Errorf("a port at which nothing listens: %d %.200q", res.StatusCode, body)
	}
	for _, port := range []int{3001, 3002, 3003, 3999} {
		i.api(t, "DELETE", fmt.Sprintf("/api/workspaces/%s/ports/%d", w.ID, port), nil, http.StatusNoContent)
	}
	relayTest(t, i)
}

// relayTest looks at the process that leads into workspaces: it has no privilege
// in the VM, three in Podman's namespace, and no network.
func relayTest(t *testing.T, i *instance) {
	t.Helper()
	got := i.sh(t, `pid=$(systemctl show -p MainPID --value rockpool-relay.service)
		sudo grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/$pid/status | tr -s '[:space:]' ' '
		sudo readlink /proc/$pid/ns/user /proc/1/ns/user | uniq | wc -l
		sudo nsenter --net --target $pid sh -c 'ip -brief address | cut -d" " -f1'
		sudo stat --format '%a %U' /run/rockpool-relay.sock`)
	const capabilities = "0000000000280004" // sys_admin, sys_ptrace, dac_read_search
	want := "CapEff: " + capabilities + " CapBnd: " + capabilities + " NoNewPrivs: 1 2\nlo\n600 rockpool"
	if got != want {
		t.Errorf("the relay: %q, want %q", got, want)
	}
}

// relayEndTest ends the relay, and with it what is open: the next request starts
// it.
func relayEndTest(t *testing.T, i *instance, w remote) {
	t.Helper()
	i.api(t, "POST", "/api/workspaces/"+w.ID+"/ports", map[string]any{"port": 3002}, http.StatusCreated)
	i.sh(t, "sudo systemctl kill --signal=KILL rockpool-relay.service")
	eventually(t, readyLimit, "the preview after the relay's end", func() bool {
		res, _ := i.get(t, 2, "/workspace/"+w.Name+"/port/3002/", i.login(t))
		return res.StatusCode == http.StatusOK
	})
}

// TestPreviews_OwnImage has an image of the user's own that is one static program:
// no code-server, no shell, no libraries.
func TestPreviews_OwnImage(t *testing.T) {
	i := primary.up(t)
	server := httptest.NewServer(newRegistry())
	defer server.Close()
	port := server.Listener.Addr().(*net.TCPAddr).Port
	pushApplication(t, server.Listener.Addr().String(), "me/application", "1")
	i.allow(t, port)
	host := net.JoinHostPort(hostInGuest, strconv.Itoa(port))
	i.sh(t, asRockpool+fmt.Sprintf(`printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' | sudo tee /etc/containers/registries.conf.d/e2e.conf
		rockpool systemctl --user stop podman.service # it has read the old ones`, host))

	w := i.api(t, "POST", "/api/workspaces", map[string]string{"name": "own-application", "image": host + "/me/application:1"}, http.StatusCreated)
	w = i.reach(t, w.ID, "running")
	previewsTest(t, i, w, "application")
	relayEndTest(t, i, w)
	i.stopAndDelete(t, w)
}

// applicationLayer is an archive of what the image has.
func applicationLayer(t *testing.T) []byte {
	t.Helper()
	program := filepath.Join(t.TempDir(), "application")
	cmd := exec.Command("go", "build", "-trimpath", "-o", program, "./ci/e2e/testdata/application")
	cmd.Dir, cmd.Env = checkout, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compile the application: %v\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}

	const admin = 1000
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, h := range []tar.Header{
		{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "home/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "home/admin/", Typeflag: tar.TypeDir, Mode: 0o755, Uid: admin, Gid: admin},
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
		{Name: "application", Typeflag: tar.TypeReg, Mode: 0o755},
	} {
		var b []byte
		switch h.Name {
		case "application":
			b = content
		case "etc/passwd":
			b = []byte("root:x:0:0::/root:/bin/sh\nadmin:x:1000:1000::/home/admin:/application\n")
		}
		h.Size = int64(len(b))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	return layer.Bytes()
}

// pushApplication pushes an image that runs testdata/application and has nothing
// else, to the registry of that address.
func pushApplication(t *testing.T, registry, repository, tag string) {
	t.Helper()
	layer := applicationLayer(t)
	encoded := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	put := func(method, path, kind string, b []byte) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+registry+"/v2/"+repository+path, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusCreated {
			t.Fatalf("the registry answers %s to %s %s", res.Status, method, path)
		}
	}
	blob := func(kind string, b []byte) v1.Descriptor {
		d := v1.Descriptor{MediaType: kind, Digest: digest.FromBytes(b), Size: int64(len(b))}
		put("POST", "/blobs/uploads/?digest="+d.Digest.String(), "application/octet-stream", b)
		return d
	}

	config := v1.Image{
		Platform: v1.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   v1.ImageConfig{Entrypoint: []string{"/application"}, User: "admin", WorkingDir: "/home/admin"},
		RootFS:   v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	}
	manifest := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: blob(v1.MediaTypeImageConfig, encoded(config)),
		Layers: []v1.Descriptor{blob(v1.MediaTypeImageLayer, layer)},
	}
	put("PUT", "/manifests/"+tag, v1.MediaTypeImageManifest, encoded(manifest))
}
