package push

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	server "github.com/google/go-containerregistry/pkg/registry"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/tart"
	"github.com/rockpool/rootvm/images/oci"
	"github.com/rockpool/rootvm/images/oci/ocitest"
	"github.com/rockpool/rootvm/images/registry"
)

// flaky is a registry in this process that a test may disturb.
type flaky struct {
	*httptest.Server
	host string

	mu      sync.Mutex
	uploads int            // bodies of blobs that were begun
	landed  map[string]int // blobs that were taken, by digest, and how often
}

// startFlaky starts one. disturb is asked for the body of each upload of a blob,
// by its number from 1, and says whether it answered in the registry's place.
func startFlaky(t *testing.T, disturb func(n int, w http.ResponseWriter, r *http.Request) bool) *flaky {
	t.Helper()
	f := &flaky{landed: map[string]int{}}
	inner := server.New(server.Logger(log.New(io.Discard, "", 0)))
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			f.mu.Lock()
			f.uploads++
			n := f.uploads
			f.mu.Unlock()
			if disturb(n, w, r) {
				return
			}
		}
		inner.ServeHTTP(w, r)
		if digest := r.URL.Query().Get("digest"); r.Method == http.MethodPut && digest != "" {
			f.mu.Lock()
			f.landed[digest]++
			f.mu.Unlock()
		}
	}))
	t.Cleanup(f.Close)
	f.host = strings.TrimPrefix(f.URL, "http://")
	return f
}

// drop reads some of a body and breaks the connection.
func drop(_ http.ResponseWriter, r *http.Request) bool {
	_, _ = io.CopyN(io.Discard, r.Body, 1000)
	panic(http.ErrAbortHandler)
}

// digest is that of the manifest that a registry has.
func (f *flaky) digest(t *testing.T, name string) string {
	t.Helper()
	res, err := f.Client().Get(f.URL + "/v2/" + strings.Replace(name, ":", "/manifests/", 1))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.Header.Get("Docker-Content-Digest")
}

// said collects lines.
type said struct {
	mu    sync.Mutex
	lines []string
}

func (s *said) say(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

func (s *said) has(want string) bool {
	return slices.ContainsFunc(s.lines, func(line string) bool { return strings.Contains(line, want) })
}

// TestPush_DroppedConnections: three uploads break; the push goes on, and sends
// no blob again that the registry has.
func TestPush_DroppedConnections(t *testing.T) {
	server := startFlaky(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
		return n%3 == 2 && n < 9 && drop(w, r)
	})
	dir := ocitest.Write(t, ocitest.Random(t, 6, 100_000))
	var lines said
	err := Push(t.Context(), dir, registry.Remote{
		Reference: server.host + "/rootvm:trixie", PlainHTTP: true, AuthFile: noCredentials(t), Say: lines.say, Delay: time.Millisecond,
	})
	if err != nil {
		t.Fatalf("%v; said %q", err, lines.lines)
	}

	want, err := oci.Layout{Dir: dir}.Digest()
	if got := server.digest(t, "rootvm:trixie"); err != nil || got != want {
		t.Errorf("the registry has %s, the layout %s, %v", got, want, err)
	}
	if server.uploads < 8 || len(server.landed) != 7 {
		t.Errorf("%d uploads, %d blobs", server.uploads, len(server.landed))
	}
	for digest, times := range server.landed {
		if times != 1 {
			t.Errorf("%s was sent %d times", digest, times)
		}
	}
	if !lines.has("going on in 1ms") || !lines.has("100 %: 0.6 of 0.6 MB") {
		t.Errorf("said %q", lines.lines)
	}
}

// TestPush_GoesOn: a push that was given up is finished by the next one, which
// sends only what is missing.
func TestPush_GoesOn(t *testing.T) {
	var broken sync.Map
	broken.Store("broken", true)
	server := startFlaky(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
		_, isBroken := broken.Load("broken")
		return isBroken && n > 3 && drop(w, r)
	})
	dir := ocitest.Write(t, ocitest.Random(t, 6, 100_000))
	d := registry.Remote{Reference: server.host + "/rootvm:trixie", PlainHTTP: true, AuthFile: noCredentials(t), Delay: time.Millisecond}
	if err := Push(t.Context(), dir, d); err == nil || !strings.Contains(err.Error(), "push to "+server.host) {
		t.Fatalf("error %v", err)
	}
	if got := server.digest(t, "rootvm:trixie"); got != "" {
		t.Errorf("half a push left the manifest %s", got)
	}
	if len(server.landed) == 0 || len(server.landed) > 3 {
		t.Fatalf("%d blobs landed", len(server.landed))
	}

	broken.Delete("broken")
	before := server.uploads
	if err := Push(t.Context(), dir, d); err != nil {
		t.Fatal(err)
	}
	if sent, first := server.uploads-before, len(server.landed); sent >= 7 || first != 7 {
		t.Errorf("%d blobs were sent, %d are there", sent, first)
	}
	for digest, times := range server.landed {
		if times != 1 {
			t.Errorf("%s was sent %d times", digest, times)
		}
	}
}

// TestPush_BusyRegistry: what says 503 is asked again, and given up after five
// times without a blob more; what forbids is not asked again.
func TestPush_BusyRegistry(t *testing.T) {
	for status, tries := range map[int]int{http.StatusServiceUnavailable: 5, http.StatusForbidden: 1} {
		var lines said
		server := startFlaky(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(status)
			return true
		})
		err := Push(t.Context(), ocitest.Layout(t, "arm64"), registry.Remote{
			Reference: server.host + "/rootvm:trixie", PlainHTTP: true, AuthFile: noCredentials(t), Say: lines.say, Delay: time.Millisecond,
		})
		again := 0
		for _, line := range lines.lines {
			if strings.Contains(line, "going on") {
				again++
			}
		}
		if err == nil || again < tries-1 || tries == 1 && again > 0 || again > 2*tries {
			t.Errorf("%d: error %v, tried again %d times", status, err, again)
		}
	}
}

// TestPush_Interrupted: an interrupt ends the wait for the next try.
func TestPush_Interrupted(t *testing.T) {
	server := startFlaky(t, func(n int, w http.ResponseWriter, r *http.Request) bool { return drop(w, r) })
	ctx, cancel := context.WithCancel(t.Context())
	start := time.Now()
	err := Push(ctx, ocitest.Layout(t, "arm64"), registry.Remote{
		Reference: server.host + "/rootvm:trixie", PlainHTTP: true, AuthFile: noCredentials(t), Delay: time.Hour,
		Say: func(line string) {
			if strings.Contains(line, "going on") {
				cancel()
			}
		},
	})
	if err == nil || time.Since(start) > time.Minute {
		t.Errorf("error %v after %v", err, time.Since(start))
	}
}

// TestPush_Tart: a registry takes the artifact as it is, with Tart's media types
// and chunks that are one blob.
func TestPush_Tart(t *testing.T) {
	spec := builders.Spec{Architecture: "arm64", SourceDateEpoch: 1_700_000_000}
	spec.FillDefaults()
	raw, dir := filepath.Join(t.TempDir(), "raw"), filepath.Join(t.TempDir(), "oci")
	if err := os.WriteFile(raw, []byte{1}, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(raw, 64e6); err != nil {
		t.Fatal(err)
	}
	if err := tart.New(spec, raw).WriteLayout(t.Context(), dir); err != nil {
		t.Fatal(err)
	}

	server := startFlaky(t, func(int, http.ResponseWriter, *http.Request) bool { return false })
	if err := Push(t.Context(), dir, registry.Remote{Reference: server.host + "/rootvm:arm64", PlainHTTP: true, AuthFile: noCredentials(t)}); err != nil {
		t.Fatal(err)
	}
	want, err := oci.Layout{Dir: dir}.Digest()
	if got := server.digest(t, "rootvm:arm64"); err != nil || got != want {
		t.Errorf("the registry has %s, the layout %s, %v", got, want, err)
	}
	if len(server.landed) != 4 {
		t.Errorf("%d blobs landed", len(server.landed))
	}
}
