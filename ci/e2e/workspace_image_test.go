//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rockpool/rootvm/images/oci"
	workspaceimage "github.com/rockpool/rootvm/images/pipeline"
	"github.com/rockpool/rootvm/images/rootfs"
	"github.com/rockpool/rootvm/vm"
)

// Ports of containers, on the VM's loopback.
const (
	rootfsPort = "18080"
	loadedPort = "18081"
)

// startRootfsContainer starts a container on the workspace image in the VM: root
// makes a view of it with the ids of a range of rockpool's, and rockpool's
// Podman an overlay on that, with what the image's configuration says.
const startRootfsContainer = asRockpool + `
ws=/usr/share/rockpool/workspace
sudo mkdir -p /run/e2e-workspace
mountpoint -q /run/e2e-workspace || sudo mount --bind -o X-mount.idmap=b:0:200000:65536 $ws/rootfs /run/e2e-workspace
mapfile -t env < <(jq -r '.config.Env[] | "--env=" + .' $ws/config.json)
mapfile -t entry < <(jq -r '.config.Entrypoint[]' $ws/config.json)
rockpool podman rm --force --ignore e2e-rootfs >/dev/null
rockpool podman run --detach --name e2e-rootfs --rootfs --uidmap 0:100001:65536 --gidmap 0:100001:65536 \
  --publish 127.0.0.1:18080:8080 --user "$(jq -r .config.User $ws/config.json)" --workdir "$(jq -r .config.WorkingDir $ws/config.json)" \
  --stop-signal "$(jq -r .config.StopSignal $ws/config.json)" "${env[@]}" /run/e2e-workspace:O "${entry[@]}"
`

// inRootfsContainer runs a script in that container as its user.
func inRootfsContainer(t *testing.T, script string) string {
	t.Helper()
	return primary.sh(t, asRockpool+"rockpool podman exec e2e-rootfs bash -ec "+quote(script))
}

// quote makes one word of a shell's.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// TestWorkspaceImage_Rootfs starts a container on the workspace image in the VM,
// works in it as the browser does, and stops it.
func TestWorkspaceImage_Rootfs(t *testing.T) {
	primary.up(t)
	m := workspaceManifest(t)
	if got := primary.sh(t, "cat /usr/share/rockpool/workspace/digest"); got != m.Images[0].Digest {
		t.Errorf("the VM holds %s, dist has %s", got, m.Images[0].Digest)
	}
	started := time.Now()
	primary.sh(t, startRootfsContainer)
	created := time.Since(started)
	ideAnswers(t, rootfsPort)
	t.Logf("created and started in %.1f s, healthy after %.1f s", created.Seconds(), time.Since(started).Seconds())

	t.Run("Terminal", func(t *testing.T) {
		commit := inRootfsContainer(t, "jq -r .commit /opt/code-server/node_modules/code-server/lib/vscode/product.json")
		e := dialEditor(t, dialGuest, commit)
		shown := e.terminal(t, "echo $((6*7))-$(id -un)-$(sudo id -u)", "42-admin-0")
		t.Logf("the terminal shows\n%s", indent(shown))
	})
	t.Run("Search", func(t *testing.T) {
		out := inRootfsContainer(t, `mkdir -p ~/p/d && echo 'a needle here' >~/p/d/file
			/opt/code-server/node_modules/code-server/lib/vscode/node_modules/@vscode/ripgrep-universal/bin/linux-x64/rg --json needle ~/p`)
		if !strings.Contains(out, "p/d/file") {
			t.Errorf("ripgrep found %s", out)
		}
	})
	t.Run("Git", func(t *testing.T) {
		out := inRootfsContainer(t, `test ! -e ~/.gitconfig
			git init -q ~/remote && cd ~/remote && echo hi >f && git add f && git -c user.name=a -c user.email=a@b commit -qm m
			git clone -q file://$HOME/remote ~/clone && cat ~/clone/f`)
		if out != "hi" {
			t.Errorf("the clone has %q", out)
		}
	})
	t.Run("NativeModules", func(t *testing.T) {
		out := inRootfsContainer(t, `cd /opt/code-server/node_modules/code-server/lib/vscode
			node -e 'for (const m of ["node-pty","@parcel/watcher","@vscode/spdlog","@vscode/native-watchdog","@vscode/fs-copyfile"]) require(m); console.log("loaded")'
			node --version && npm --version && n --version && python3 -c 'import pip, venv, ensurepip' && gcc --version | head -1`)
		if !strings.HasPrefix(out, "loaded\nv24.") {
			t.Errorf("in the container: %s", out)
		}
	})
	t.Run("Telemetry", func(t *testing.T) {
		page := primary.sh(t, "curl -fsSL http://127.0.0.1:"+rootfsPort+"/")
		if got := strings.ReplaceAll(page, "&quot;", `"`); !strings.Contains(got, `"enableTelemetry":false`) {
			t.Errorf("the editor reports what its user does: its page says\n%s", got)
		}
	})
	t.Run("NodeVersions", func(t *testing.T) {
		port := nodeMirror(t, "22.99.1")
		primary.allow(t, port)
		for file, version := range map[string]string{".nvmrc": "22", ".node-version": "v22.99.1"} {
			out := inRootfsContainer(t, fmt.Sprintf(`mkdir -p ~/versions/%[1]s && cd ~/versions/%[1]s && echo %[2]s >%[1]s
				N_NODE_MIRROR=http://%[3]s:%[4]d N_USE_XZ=0 n auto >&2 && node --version
				rm -r ~/.local/bin/node ~/.local/n && hash -r && node --version`, file, version, hostInGuest, port))
			if lines := strings.Fields(out); len(lines) < 2 || lines[len(lines)-2] != "v22.99.1" || !strings.HasPrefix(lines[len(lines)-1], "v24.") {
				t.Errorf("with %s: %s", file, out)
			}
		}
	})
	stopRootfsContainer(t)
}

// nodeMirror serves one version of Node.js the way nodejs.org does. Its program
// only tells the version.
func nodeMirror(t *testing.T, version string) (port int) {
	t.Helper()
	name := fmt.Sprintf("node-v%s-linux-x64", version)
	program := []byte("#!/bin/sh\necho v" + version + "\n")
	var archive bytes.Buffer
	compressed := gzip.NewWriter(&archive)
	w := tar.NewWriter(compressed)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name + "/bin/node", Mode: 0o755, Size: int64(len(program))})
	if err == nil {
		_, err = w.Write(program)
	}
	if err := errors.Join(err, w.Close(), compressed.Close()); err != nil {
		t.Fatal(err)
	}

	mux := http.NewServeMux()
	mux.HandleFunc("/index.tab", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "version\tdate\tfiles\tnpm\tv8\tuv\tzlib\topenssl\tmodules\tlts\tsecurity\nv%s\t2026-01-01\tlinux-x64\t-\t-\t-\t-\t-\t-\t-\tfalse\n", version)
	})

	mux.HandleFunc(fmt.Sprintf("/v%s/%s.tar.gz", version, name), func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive.Bytes()) })
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}

// ideAnswers waits until a container's IDE answers on a port of the VM's
// loopback.
func ideAnswers(t *testing.T, port string) {
	t.Helper()
	eventually(t, readyLimit, "the container's /healthz", func() bool {
		out, err := primary.trySh(t.Context(), "curl -fsS http://127.0.0.1:"+port+"/healthz")
		return err == nil && strings.Contains(out, "status")
	})
}

// killed is the exit code of a container that SIGKILL ended.
const killed = 137

// stopRootfsContainer sends the container the image's own signal, and measures in the VM
// how long it takes from there to its end: Podman's commands take longer.
func stopRootfsContainer(t *testing.T) {
	t.Helper()
	out := primary.sh(t, asRockpool+`
		sudo bash -ec 't=$(date +%s%N); kill -s "$1" "$2"; timeout 120 tail --pid="$2" --sleep-interval=0.05 -f /dev/null; echo $((($(date +%s%N)-t)/1000000))' bash \
			"$(jq -r .config.StopSignal /usr/share/rockpool/workspace/config.json)" "$(rockpool podman inspect --format '{{.State.Pid}}' e2e-rootfs)"
		rockpool podman wait e2e-rootfs
		rockpool podman rm e2e-rootfs >/dev/null; sudo umount /run/e2e-workspace`)

	var milliseconds, code int
	if _, err := fmt.Sscan(out, &milliseconds, &code); err != nil {
		t.Fatalf("stop said %q", out)
	}

	t.Logf("ended %d ms after the signal with exit code %d", milliseconds, code)
	if code == killed {
		t.Errorf("it ended with %d: it was killed", code)
	}

	limit := 2 * time.Second
	if primary.status(t).Accel != vm.AccelKVM {
		limit = 10 * time.Second // several times slower; after that the agent has it killed
	}
	if took := time.Duration(milliseconds) * time.Millisecond; took > limit {
		t.Errorf("it ended %s after the signal, want %s", took, limit)
	}
}

// TestWorkspaceImage_Loads gives the OCI archive to Podman in the VM, which runs
// a program of it, and it as it is.
func TestWorkspaceImage_Loads(t *testing.T) {
	takesLong(t)
	primary.up(t)
	m := workspaceManifest(t)
	copyImage(t, filepath.Join(checkout, "dist", m.Name+".oci.tar"), filepath.Join(primary.project, "workspace.oci.tar"))
	t.Cleanup(func() {
		if t.Failed() { // what it left would fail others
			_, _ = primary.trySh(context.Background(), asRockpool+"rockpool podman rm --force --ignore e2e-loaded; rockpool podman rmi --force "+m.Reference)
		}
	})
	started := time.Now()
	out := primary.sh(t, asRockpool+`
		sudo cat /mnt/rockpool/workspace.oci.tar | rockpool podman load --quiet
		rockpool podman image inspect --format '{{.Digest}} {{index .Labels "org.opencontainers.image.title"}}' `+m.Reference+`
		rockpool podman run --rm --entrypoint bash `+m.Reference+` -c 'id -un; code-server --version'`)
	t.Logf("loaded and ran in %.0f s:\n%s", time.Since(started).Seconds(), indent(out))
	for _, want := range []string{m.Reference, "Rockpool workspace", "admin", "4.139.1"} {
		if !strings.Contains(out, want) {
			t.Errorf("it lacks %q", want)
		}
	}

	started = time.Now()
	primary.sh(t, asRockpool+"rockpool podman run --detach --name e2e-loaded --publish 127.0.0.1:"+loadedPort+":8080 "+m.Reference)
	ideAnswers(t, loadedPort)
	t.Logf("healthy after %.1f s", time.Since(started).Seconds())
	code := primary.sh(t, asRockpool+`
		rockpool podman stop --time 10 e2e-loaded >/dev/null
		rockpool podman inspect --format '{{.State.ExitCode}}' e2e-loaded
		rockpool podman rm e2e-loaded >/dev/null
		rockpool podman rmi --force `+m.Reference+` >/dev/null`)
	if code == strconv.Itoa(killed) {
		t.Errorf("it ended with %s: the image's signal did not end it", code)
	}
}

// TestWorkspaceImage_Again does nothing when nothing changed, and takes every
// step from the cache when it is forced.
func TestWorkspaceImage_Again(t *testing.T) {
	builds.mage(t, "workspace:image")
	before := workspaceManifest(t)
	started := time.Now()
	if out := builds.mage(t, "workspace:image"); !strings.Contains(out, "is up to date") {
		t.Errorf("a second build said %s", out)
	}
	t.Logf("up to date in %.1f s", time.Since(started).Seconds())
	if testing.Short() {
		return // compressing takes a minute
	}
	started = time.Now()
	if out := builds.with("FORCE=1").mage(t, "workspace:image"); !strings.Contains(out, "every step was cached") {
		t.Errorf("a forced build said %s", out)
	}
	t.Logf("forced in %.1f s", time.Since(started).Seconds())
	if after := workspaceManifest(t); after.Digest != before.Digest {
		t.Errorf("digest %s, then %s", before.Digest, after.Digest)
	}
}

// TestWorkspaceImage_SameDigest builds with an empty storage of layers, and is
// killed twice on the way: what was finished is not built again. When the digest
// differs it says which files do.
func TestWorkspaceImage_SameDigest(t *testing.T) {
	takesLong(t)
	builds.mage(t, "workspace:image")
	before := workspaceManifest(t)
	kept := filepath.Join(t.TempDir(), "layout")
	if out, err := exec.Command("cp", "-a", "--reflink=auto", filepath.Join(checkout, "dist", before.Layout), kept).CombinedOutput(); err != nil {
		t.Fatalf("keep the layout: %v: %s", err, out)
	}

	cache := t.TempDir()
	shareCache(t, cache, rootfsResults)
	cold := builds.with("FORCE=1", "ROCKPOOL_CACHE="+cache)
	defer cold.mage(t, "workspace:clean")
	for _, stage := range []string{"[2/3] STEP 4/4", "compressing"} {
		killAt(t, cold, "workspace:image", stage)
		if m := workspaceManifest(t); m.Digest != before.Digest {
			t.Errorf("killed at %q: the manifest names another image", stage)
		}
	}

	if out := cold.mage(t, "workspace:image"); !strings.Contains(out, "every step was cached") {
		t.Error("what was finished before the kill is built again")
	}
	after := workspaceManifest(t)
	for _, s := range after.Steps {
		t.Logf("%7.2f s  %s", s.Seconds, s.Name)
	}

	if after.Digest == before.Digest {
		return
	}
	t.Errorf("digest %s, then %s", before.Digest, after.Digest)
	first, err := rootfs.Open(oci.Layout{Dir: kept}, "amd64")
	if err != nil {
		t.Fatal(err)
	}

	second, err := rootfs.Open(oci.Layout{Dir: filepath.Join(checkout, "dist", after.Layout)}, "amd64")
	if err != nil {
		t.Fatal(err)
	}

	differences, err := rootfs.Differences(first, second)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("what differs:\n%s", indent(strings.Join(differences, "\n")))
}

// TestWorkspaceImage_Faults expects a sentence and an exit code.
func TestWorkspaceImage_Faults(t *testing.T) {
	builds.fails(t, []string{"linux/s390x", "linux/amd64, linux/arm64"}, "workspace:image", "--platform", "linux/s390x")
	builds.mage(t, "workspace:image")
	builds.fails(t, []string{"push to 127.0.0.1:1/a/b:c", "refused"}, "workspace:image", "--push", "127.0.0.1:1/a/b:c", "--plain-http")
	builds.fails(t, []string{"no reference to a registry"}, "workspace:image", "--push", "A B")

	broken := builds.with()
	broken.source = filepath.Join(t.TempDir(), "checkout")
	if out, err := exec.Command("git", "clone", "--quiet", checkout, broken.source).CombinedOutput(); err != nil {
		t.Fatalf("clone the checkout: %v: %s", err, out)
	}
	containerfile := filepath.Join(broken.source, "images", "workspace", "Containerfile")
	b, err := os.ReadFile(containerfile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(containerfile, bytes.Replace(b, []byte("FROM ${BASE} AS base\n"), []byte("FROM ${BASE} AS base\nRUN echo no such thing; exit 3\n"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	broken.fails(t, []string{"no such thing", "RUN echo no such thing; exit 3", "exit status 3"}, "workspace:image")
	if out := builds.mage(t, "workspace:image"); !strings.Contains(out, "is up to date") {
		t.Error("the failed build left the old image changed")
	}
}

// TestWorkspaceImage_Registry pushes the image to a registry, then takes it
// from there as a base, one that lacks no package.
func TestWorkspaceImage_Registry(t *testing.T) {
	takesLong(t)
	server := httptest.NewTLSServer(newRegistry())
	defer server.Close()
	known := builds.with("SSL_CERT_FILE=" + withAuthority(t, server.Certificate()))
	reference := server.Listener.Addr().String() + "/rockpool/workspace:trixie"

	known.mage(t, "workspace:image", "--push", reference)
	pushed := workspaceManifest(t)
	res, err := server.Client().Get(server.URL + "/v2/rockpool/workspace/manifests/trixie")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := res.Header.Get("Docker-Content-Digest"); got != pushed.Digest {
		t.Errorf("the registry has %q, dist has %s", got, pushed.Digest)
	}

	defer builds.mage(t, "workspace:image") // dist is as it was
	known.with("BASE="+reference).mage(t, "workspace:image")
	m := workspaceManifest(t)
	img, err := oci.Layout{Dir: filepath.Join(checkout, "dist", m.Layout)}.Image("amd64")
	if err != nil {
		t.Fatal(err)
	}
	var config v1.Image
	if err := json.Unmarshal(img.Config, &config); err != nil {
		t.Fatal(err)
	}
	if got := config.Config.Labels["org.opencontainers.image.base.digest"]; m.Base != reference || got != pushed.Images[0].Digest {
		t.Errorf("made from %q with digest %q, want %s with %s", m.Base, got, reference, pushed.Images[0].Digest)
	}
}

func newRegistry() http.Handler { return registry.New(registry.Logger(log.New(io.Discard, "", 0))) }

// withAuthority returns a file of the host's certificate authorities and one
// more.
func withAuthority(t *testing.T, c *x509.Certificate) string {
	t.Helper()
	all, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "authorities.pem")
	all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	if err := os.WriteFile(file, all, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func workspaceManifest(t *testing.T) workspaceimage.Manifest {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(checkout, "dist", "rockpool-workspace-trixie-amd64.manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m workspaceimage.Manifest
	if err := json.Unmarshal(b, &m); err != nil || len(m.Images) == 0 {
		t.Fatalf("the manifest of the workspace image: %v: %s", err, b)
	}
	return m
}

// dialGuest reaches the container's port through the VM's shell.
func dialGuest(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	cmd := exec.CommandContext(ctx, mageBin, "vm:ssh", "--", "nc", "127.0.0.1", rootfsPort)
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout = checkout, primary.environment(), far, far
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // ends with the connection
		_ = far.Close()
	}()
	return near, nil
}
