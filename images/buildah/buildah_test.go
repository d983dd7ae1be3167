package buildah

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containers/buildah"
	server "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/pkg/compression"
	"go.podman.io/storage"

	"github.com/rockpool/rootvm/images"
	"github.com/rockpool/rootvm/images/registry"
	"github.com/rockpool/rootvm/images/registry/push"
)

// TestMain is also what containers/storage starts to unpack a layer.
func TestMain(m *testing.M) {
	if buildah.InitReexec() {
		return
	}
	os.Exit(m.Run())
}

// testLayout writes a layout of one image with an empty layer for each
// platform, under an index when there are several.
func testLayout(t *testing.T, architectures ...string) string {
	t.Helper()
	return testLayoutOf(t, 1024, architectures...)
}

// testLayoutOf is testLayout with a layer whose archive has so many bytes, so that
// layers differ.
func testLayoutOf(t *testing.T, size int, architectures ...string) string {
	t.Helper()
	dir := t.TempDir()
	blobs := filepath.Join(dir, v1.ImageBlobsDir, "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}

	blob := func(mediaType string, v any) v1.Descriptor {
		d, err := writeBlob(blobs, mediaType, v)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}

	archive := make([]byte, size) // an empty tar
	var compressed bytes.Buffer
	w, err := compression.CompressStream(&compressed, compression.Zstd, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(archive); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	layer := v1.Descriptor{MediaType: v1.MediaTypeImageLayerZstd, Digest: digest.FromBytes(compressed.Bytes()), Size: int64(compressed.Len())}
	if err := os.WriteFile(filepath.Join(blobs, layer.Digest.Encoded()), compressed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}

	version := specs.Versioned{SchemaVersion: 2}
	var manifests []v1.Descriptor
	for _, a := range architectures {
		root := v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(archive)}}
		config := blob(v1.MediaTypeImageConfig, v1.Image{Platform: v1.Platform{OS: "linux", Architecture: a}, RootFS: root})
		d := blob(v1.MediaTypeImageManifest, v1.Manifest{Versioned: version, MediaType: v1.MediaTypeImageManifest, Config: config, Layers: []v1.Descriptor{layer}})
		manifests = append(manifests, indexed(d, "linux/"+a))
	}

	top := manifests[0]
	if len(manifests) > 1 {
		top = blob(v1.MediaTypeImageIndex, v1.Index{Versioned: version, MediaType: v1.MediaTypeImageIndex, Manifests: manifests})
	}
	if err := writeIndex(dir, top); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPush: an index as export writes it keeps its digest in a registry.
func TestPush(t *testing.T) {
	listener := httptest.NewServer(server.New())
	defer listener.Close()
	host := strings.TrimPrefix(listener.URL, "http://")
	for _, architectures := range [][]string{{"amd64"}, {"amd64", "arm64"}} {
		dir := testLayout(t, architectures...)
		name := fmt.Sprintf("rockpool/workspace-%d", len(architectures))
		if err := push.Push(t.Context(), dir, registry.Remote{Reference: host + "/" + name + ":trixie", PlainHTTP: true, AuthFile: noCredentials(t)}); err != nil {
			t.Fatal(err)
		}

		res, err := listener.Client().Get(listener.URL + "/v2/" + name + "/manifests/trixie")
		if err != nil {
			t.Fatal(err)
		}

		res.Body.Close()
		want, err := readIndex(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := res.Header.Get("Docker-Content-Digest"); got != want.Digest.String() {
			t.Errorf("%v: the registry has %q, the layout %s", architectures, got, want.Digest)
		}
	}
}

// noCredentials is a file of credentials that is not there: the user's own may
// not be readable.
func noCredentials(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "auth.json")
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(100, 0)
	p := &progress{out: &out, now: func() time.Time { return now.Add(1500 * time.Millisecond) }, start: now, used: map[string]bool{}}
	for _, part := range []string{"[1/2] STEP 1/3: FROM x AS base\n[1/2] STEP 2/3: AR", "G A\n--> Using cache abc\n", "STEP 3/3: RUN true\r\n", "--> def\n", "[notice] no step\nleft"} {
		if n, err := p.Write([]byte(part)); err != nil || n != len(part) {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	if p.steps != 2 || p.cached != 1 || !p.used["abc"] {
		t.Errorf("%d steps, %d cached, used %v", p.steps, p.cached, p.used)
	}
	want := "    1.5 s  [1/2] STEP 1/3: FROM x AS base\n    1.5 s  [1/2] STEP 2/3: ARG A\n    1.5 s  --> Using cache abc\n    1.5 s  STEP 3/3: RUN true\n    1.5 s  --> def\n    1.5 s  [notice] no step\n"
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
}

func TestWriteBase(t *testing.T) {
	content := []byte("an archive")
	archive := filepath.Join(t.TempDir(), "root.tar")
	if err := os.WriteFile(archive, content, 0o644); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	sum := digest.FromBytes(content)
	if err := writeBase(dir, images.Base{Archive: archive, SHA256: sum.Encoded(), Created: 5}, "arm64"); err != nil {
		t.Fatal(err)
	}

	top, err := readIndex(dir)
	if err != nil {
		t.Fatal(err)
	}

	var m v1.Manifest
	b, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", top.Digest.Encoded()))
	if err != nil || json.Unmarshal(b, &m) != nil {
		t.Fatalf("manifest: %v: %s", err, b)
	}
	if len(m.Layers) != 1 || m.Layers[0].Digest != sum || m.Layers[0].Size != int64(len(content)) {
		t.Errorf("layers = %v", m.Layers)
	}

	layer, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", sum.Encoded()))
	if err != nil || !bytes.Equal(layer, content) {
		t.Errorf("layer = %q, %v", layer, err)
	}
}

// TestStore_Options: only for a base that is not ours may a step use a network.
func TestStore_Options(t *testing.T) {
	for base, want := range map[string]string{"": "1", "registry.example/debian:13": ""} {
		r := images.Request{Spec: images.Spec{Base: base}, Inputs: map[string]string{"linux/amd64": "abc", "linux/arm64": "def"}}
		o, err := (&store{run: t.TempDir()}).options(r, "linux/amd64", "id", "sha256:0", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := o.Args["OFFLINE"]; !ok || got != want || o.Args["BASE"] != "id" || o.Args["INPUTS"] != "abc" {
			t.Errorf("BASE=%s: arguments %v", base, o.Args)
		}
	}
}

func TestBaseName(t *testing.T) {
	spec := images.Spec{Suite: "trixie", Platforms: []string{"linux/amd64"}}
	img := storage.Image{Names: []string{"localhost/rockpool-workspace-base:trixie-amd64-0123", "localhost/rockpool-workspace-base:trixie-arm64-0123", "localhost/other"}}
	if got := (*store)(nil).basesOf(spec, img); len(got) != 1 || got[0] != img.Names[0] {
		t.Errorf("bases = %v", got)
	}
}

func TestExplain(t *testing.T) {
	if err := explain(fmt.Errorf("write: %w", syscall.ENOSPC)); err == nil || !strings.Contains(err.Error(), "the disk is full: free some space") {
		t.Errorf("a full disk: %v", err)
	}
	other := errors.New("other")
	if err := explain(other); err != other {
		t.Errorf("another error: %v", err)
	}
	if err := explain(nil); err != nil {
		t.Errorf("no error: %v", err)
	}
}

// inNamespace runs the calling test in a process that is root of namespaces of
// its own, which opening a storage takes. It returns false in the process that
// has waited for that one and has nothing more to do.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const marker = "ROCKPOOL_TEST_IN_NAMESPACE"
	if os.Getenv(marker) != "" {
		return true
	}

	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	// As images/pipeline has it: nothing is looked for where only the machine's root may.
	cmd.Env = append(os.Environ(), marker+"=1", "HOME="+t.TempDir(), "_CONTAINERS_USERNS_CONFIGURED=done",
		fmt.Sprintf("_CONTAINERS_ROOTLESS_UID=%d", os.Getuid()), fmt.Sprintf("_CONTAINERS_ROOTLESS_GID=%d", os.Getgid()))

	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}

	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Skipf("no namespaces on this machine: %v", err)
	}
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	return false
}

// TestOpen: what a killed build left is gone, and nothing of this one stays but
// the layers.
func TestOpen(t *testing.T) {
	if !inNamespace(t) {
		return
	}

	dir := t.TempDir()
	layers, scratch := filepath.Join(dir, "storage"), filepath.Join(dir, "tmp")
	left := filepath.Join(scratch, "buildah123", "mnt")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}

	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	s, err := open(layers, scratch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left is there: %v", err)
	}

	system, err := s.system()
	if err != nil {
		t.Fatal(err)
	}
	if system.BigFilesTemporaryDir != scratch {
		t.Errorf("big files go to %s, want %s", system.BigFilesTemporaryDir, scratch)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(scratch); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the scratch directory is there: %v", err)
	}
	if other, err := os.ReadDir(temporary); err != nil || len(other) > 0 {
		t.Errorf("elsewhere: %v, %v", other, err)
	}
}

// TestStore_Pull takes bases from a registry in this process.
func TestStore_Pull(t *testing.T) {
	if !inNamespace(t) {
		return
	}

	t.Setenv("REGISTRY_AUTH_FILE", noCredentials(t))
	listener := httptest.NewServer(server.New())
	defer listener.Close()
	host := strings.TrimPrefix(listener.URL, "http://")
	one, both := host+"/base/one:1", host+"/base/both:1"
	for reference, dir := range map[string]string{one: testLayout(t, "amd64"), both: testLayout(t, "amd64", "arm64")} {
		if err := push.Push(t.Context(), dir, registry.Remote{Reference: reference, PlainHTTP: true, AuthFile: noCredentials(t)}); err != nil {
			t.Fatal(err)
		}
	}

	dir := t.TempDir()
	s, err := open(filepath.Join(dir, "storage"), filepath.Join(dir, "tmp"))
	if err != nil {
		t.Fatal(err)
	}

	defer s.close()
	for _, c := range []struct{ base, platform, want string }{
		{one, "linux/arm64", "BASE " + one + " is for linux/amd64, not linux/arm64: give one that has it"},
		{one, "linux/amd64", ""},
		{both, "linux/amd64", ""},
		{both, "linux/arm64", ""},
	} {
		out := &progress{out: new(bytes.Buffer), now: time.Now, used: map[string]bool{}}
		id, _, err := s.pull(t.Context(), images.Request{Spec: images.Spec{Suite: "trixie", Base: c.base}, PlainHTTP: true}, c.platform, out)
		switch {
		case c.want == "" && (err != nil || !out.used[id]):
			t.Errorf("%s for %s: %v", c.base, c.platform, err)
		case c.want != "" && (err == nil || err.Error() != c.want):
			t.Errorf("%s for %s: error %v, want %s", c.base, c.platform, err, c.want)
		}
	}
}

// TestStore_Prune: of the bases that were pulled for BASE, that of this build
// stays, and those of other suites.
func TestStore_Prune(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	t.Setenv("REGISTRY_AUTH_FILE", noCredentials(t))
	listener := httptest.NewServer(server.New())
	defer listener.Close()
	host := strings.TrimPrefix(listener.URL, "http://")
	push := func(name string, kib int) string {
		t.Helper()
		reference := host + "/base/" + name
		dir := testLayoutOf(t, kib*1024, "amd64")
		if err := push.Push(t.Context(), dir, registry.Remote{Reference: reference, PlainHTTP: true, AuthFile: noCredentials(t)}); err != nil {
			t.Fatal(err)
		}
		return reference
	}
	dir := t.TempDir()
	s, err := open(filepath.Join(dir, "storage"), filepath.Join(dir, "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()

	// build pulls a base as a build of a suite does, and prunes as it does.
	build := func(suite, reference string) (id string) {
		t.Helper()
		before, err := s.Images()
		if err != nil {
			t.Fatal(err)
		}
		spec := images.Spec{Suite: suite, Base: reference, Platforms: []string{"linux/amd64"}}
		out := &progress{out: new(bytes.Buffer), now: time.Now, used: map[string]bool{}}
		id, _, err = s.pull(t.Context(), images.Request{Spec: spec, PlainHTTP: true}, "linux/amd64", out)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.prune(spec, before, out.used); err != nil {
			t.Fatal(err)
		}
		return id
	}
	holds := func(what string, want ...string) {
		t.Helper()
		all, err := s.Images()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, img := range all {
			got = append(got, img.ID)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %.12q, want %.12q", what, got, want)
		}
	}

	other := build("bookworm", push("other:12", 1))
	first := build("trixie", push("one:13", 2))
	holds("a base for each suite", other, first)
	moved := build("trixie", push("one:13", 3))
	holds("a tag that moved", other, moved)
	second := build("trixie", push("two:13", 4))
	holds("another BASE", other, second)

	// As a release before this one left it.
	img, err := s.Image(second)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetNames(second, slices.DeleteFunc(img.Names, func(name string) bool { return strings.HasPrefix(name, anyBaseName) })); err != nil {
		t.Fatal(err)
	}
	third := build("bookworm", push("three:12", 5))
	holds("a base without our name", third)
}

// TestBuilder_BadRequest fails before it touches anything.
func TestBuilder_BadRequest(t *testing.T) {
	b := Builder{Out: new(bytes.Buffer), Now: time.Now}
	dir := filepath.Join(t.TempDir(), "storage")
	_, err := b.Build(t.Context(), images.Request{Storage: dir})
	if err == nil || !strings.Contains(err.Error(), "SUITE") {
		t.Errorf("error = %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the storage is there: %v", err)
	}
}

// TestProgress_Again: only a step that did not begin is worth another try, and
// what the failed try counted is forgotten.
func TestProgress_Again(t *testing.T) {
	p := &progress{out: &bytes.Buffer{}, now: time.Now, start: time.Now(), used: map[string]bool{}}
	p.printLine("STEP 1/2: RUN a")
	steps, cached := p.counted()
	p.printLine("STEP 2/2: RUN b")
	p.printLine("make: *** [all] Error 1")
	if p.again(steps, cached) {
		t.Error("a step that failed is tried again")
	}
	p.printLine("Close_Fd sealing memfd copy: Device or resource busy")
	if !p.again(steps, cached) || p.again(steps, cached) {
		t.Error("want one more try for one such line")
	}
	if got, _ := p.counted(); got != 1 {
		t.Errorf("%d steps, want 1", got)
	}
}
