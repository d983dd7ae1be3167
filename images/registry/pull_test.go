package registry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	server "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/rockpool/rootvm/images/oci/ocitest"
	"github.com/rockpool/rootvm/images/registry"
	"github.com/rockpool/rootvm/images/registry/push"
)

// source is a registry in this process with one artifact of six layers, which a
// test may disturb.
type source struct {
	*httptest.Server
	remote registry.Remote
	digest string

	mu      sync.Mutex
	sent    map[string]int // blobs that were asked for, by digest, and how often
	disturb func(n int, w http.ResponseWriter, r *http.Request) bool
	lines   []string
}

// startSource starts one. disturb is asked for each request for a blob, by its
// number from 1, and says whether it answered in the registry's place.
func startSource(t *testing.T) *source {
	t.Helper()
	s := &source{sent: map[string]int{}}
	inner := server.New(server.Logger(log.New(io.Discard, "", 0)))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, digest, isBlob := strings.Cut(r.URL.Path, "/blobs/"); isBlob && r.Method == http.MethodGet {
			s.mu.Lock()
			s.sent[digest]++
			n := 0
			for _, times := range s.sent {
				n += times
			}
			disturb := s.disturb
			s.mu.Unlock()
			if disturb != nil && disturb(n, w, r) {
				return
			}
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)

	s.remote = registry.Remote{
		Reference: strings.TrimPrefix(s.URL, "http://") + "/rootvm:trixie", PlainHTTP: true, AuthFile: filepath.Join(t.TempDir(), "auth.json"),
		Delay: time.Millisecond,
		Say: func(line string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.lines = append(s.lines, line)
		},
	}
	if err := push.Push(t.Context(), ocitest.Write(t, ocitest.Random(t, 6, 100_000)), s.remote); err != nil {
		t.Fatal(err)
	}
	s.lines = nil
	var err error
	if s.digest, err = registry.Digest(t.Context(), s.remote); err != nil {
		t.Fatal(err)
	}
	return s
}

func anything() error { return nil }

// cut sends some of a blob and breaks the connection.
func cut(_ int, w http.ResponseWriter, _ *http.Request) bool {
	w.Header().Set("Content-Length", "100000")
	_, _ = w.Write(make([]byte, 1000))
	panic(http.ErrAbortHandler)
}

// blobs are those of a layout that have their names, and of their digests.
func blobs(t *testing.T, dir string) (whole int) {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if h, _, err := v1.SHA256(bytes.NewReader(b)); err != nil || h.Hex != f.Name() {
			t.Errorf("blob %s has the digest %s, %v", f.Name(), h.Hex, err)
		}
		whole++
	}
	return whole
}

func TestPull(t *testing.T) {
	s := startSource(t)
	dir := filepath.Join(t.TempDir(), "oci")
	if err := registry.Pull(t.Context(), dir, s.remote, s.digest, anything); err != nil {
		t.Fatal(err)
	}
	if n := blobs(t, dir); n != 8 { // manifest, config, layers
		t.Errorf("%d blobs", n)
	}
	if last := s.lines[len(s.lines)-1]; last != "100 %: 0.6 of 0.6 MB" {
		t.Errorf("said last %q", last)
	}
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil || !strings.Contains(string(index), s.digest) {
		t.Errorf("index %s, %v", index, err)
	}
}

// TestPull_DroppedConnections: connections break; the pull goes on, and fetches no
// blob again that is here.
func TestPull_DroppedConnections(t *testing.T) {
	s := startSource(t)
	s.disturb = func(n int, w http.ResponseWriter, r *http.Request) bool { return n%3 == 2 && n < 9 && cut(n, w, r) }
	dir := filepath.Join(t.TempDir(), "oci")
	if err := registry.Pull(t.Context(), dir, s.remote, s.digest, anything); err != nil {
		t.Fatalf("%v; said %q", err, s.lines)
	}
	if n := blobs(t, dir); n != 8 {
		t.Errorf("%d blobs", n)
	}
	if said := strings.Join(s.lines, "\n"); !strings.Contains(said, "going on in 1ms, with what is here") || !strings.Contains(said, "100 %") {
		t.Errorf("said %q", said)
	}
}

// TestPull_GoesOn: a pull that was given up is finished by the next one, which
// fetches only what is missing.
func TestPull_GoesOn(t *testing.T) {
	s := startSource(t)
	s.disturb = func(n int, w http.ResponseWriter, r *http.Request) bool { return n > 3 && cut(n, w, r) }
	dir := filepath.Join(t.TempDir(), "oci")
	if err := registry.Pull(t.Context(), dir, s.remote, s.digest, anything); err == nil || !strings.Contains(err.Error(), "pull "+s.remote.Reference) {
		t.Fatalf("error %v", err)
	}
	first := blobs(t, dir)
	if first < 2 || first > 4 { // the manifest, and what came before
		t.Fatalf("%d blobs", first)
	}

	s.mu.Lock()
	s.disturb, s.sent = nil, map[string]int{}
	s.mu.Unlock()
	if err := registry.Pull(t.Context(), dir, s.remote, s.digest, anything); err != nil {
		t.Fatal(err)
	}
	if n := blobs(t, dir); n != 8 || len(s.sent) != 8-first {
		t.Errorf("%d blobs, %d of them asked for after %d", n, len(s.sent), first)
	}
}

// TestPull_WrongBytes: what a registry sends in the place of a blob or a manifest
// is refused, and has no name.
func TestPull_WrongBytes(t *testing.T) {
	s := startSource(t)
	s.disturb = func(n int, w http.ResponseWriter, r *http.Request) bool {
		_, _ = w.Write(bytes.Repeat([]byte{7}, 100_000))
		return true
	}
	dir := filepath.Join(t.TempDir(), "oci")
	err := registry.Pull(t.Context(), dir, s.remote, s.digest, anything)
	if err == nil || !strings.Contains(err.Error(), "blob") {
		t.Errorf("wrong blobs: %v", err)
	}
	if n := blobs(t, dir); n != 1 {
		t.Errorf("%d blobs have names", n)
	}

	other := "sha256:" + strings.Repeat("0", 64)
	if err := registry.Pull(t.Context(), dir, s.remote, other, anything); err == nil || !strings.Contains(err.Error(), "manifest unknown") {
		t.Errorf("a manifest that is not there: %v", err)
	}
}

// TestPull_Refused: what is not wanted is refused before a blob is fetched.
func TestPull_Refused(t *testing.T) {
	s := startSource(t)
	unwanted := errors.New("not wanted")
	if err := registry.Pull(t.Context(), filepath.Join(t.TempDir(), "oci"), s.remote, s.digest, func() error { return unwanted }); !errors.Is(err, unwanted) {
		t.Errorf("error %v", err)
	}
	if len(s.sent) > 0 {
		t.Errorf("%d blobs were asked for", len(s.sent))
	}
}

// TestPull_Interrupted leaves whole blobs only.
func TestPull_Interrupted(t *testing.T) {
	s := startSource(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.disturb = func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n > 2 {
			cancel()
			<-r.Context().Done()
			return true
		}
		return false
	}
	dir := filepath.Join(t.TempDir(), "oci")
	if err := registry.Pull(ctx, dir, s.remote, s.digest, anything); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if n := blobs(t, dir); n > 3 {
		t.Errorf("%d blobs", n)
	}
}

func TestDigest_Faults(t *testing.T) {
	s := startSource(t)
	host, _, _ := strings.Cut(s.remote.Reference, "/")
	for _, c := range []struct{ reference, want string }{
		{"Not A Reference", "is no reference to a registry"},
		{host + "/rootvm:none", "rootvm:none"},
	} {
		remote := s.remote
		remote.Reference = c.reference
		if _, err := registry.Digest(t.Context(), remote); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.reference, err, c.want)
		}
	}
	s.Close()
	if _, err := registry.Digest(t.Context(), s.remote); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("nobody listens: %v", err)
	}
}
