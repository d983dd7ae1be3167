//go:build remote

package podman

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// memory is a storage that keeps what it is told, and no files.
type memory struct {
	mu     sync.Mutex
	files  []agent.FilesUsage
	images []agent.ImageUsage
	asked  []string
	full   bool // there is no room for an image
	busy   bool // something keeps what is shown
}

func (m *memory) ask(format string, args ...any) {
	m.asked = append(m.asked, fmt.Sprintf(format, args...))
}

// said returns what it was told since it was asked last.
func (m *memory) said() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	said := strings.Join(m.asked, ", ")
	m.asked = nil
	return said
}

func (m *memory) Open(_ context.Context, f agent.Files, report func(string)) (agent.FilesView, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ask("open %s", f.Image)
	n := indexOf(m.files, f.ID)
	if n < 0 {
		report("taken over")
		n, m.files = len(m.files), append(m.files, agent.FilesUsage{Files: f})
	}
	if had := m.files[n]; had.Image != f.Image || had.Slot != f.Slot {
		return agent.FilesView{}, agent.Errorf(agent.CodeConflict, "files of another image")
	}
	m.files[n].Open = true
	return shown, nil
}

func (m *memory) Close(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ask("close")
	if m.busy {
		return agent.Errorf(agent.CodeConflict, "in use")
	}
	if n := indexOf(m.files, id); n >= 0 {
		m.files[n].Open = false
	}
	return nil
}

func (m *memory) Remove(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ask("remove")
	m.files = slices.DeleteFunc(m.files, func(f agent.FilesUsage) bool { return f.ID == id })
	return nil
}

func (m *memory) SetQuota(_ context.Context, id string, quota int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ask("quota %d", quota)
	if n := indexOf(m.files, id); n >= 0 {
		m.files[n].Quota = quota
	}
	return nil
}

func (m *memory) Usage(context.Context) (agent.StorageUsage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return agent.StorageUsage{Files: slices.Clone(m.files), Images: slices.Clone(m.images)}, nil
}

func (m *memory) AddImage(_ context.Context, digest string, archive io.Reader) error {
	names := []string{}
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		names = append(names, h.Name)
		if m.full {
			return agent.Errorf(agent.CodeNoSpace, "full")
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ask("add %s %s", digest, strings.Join(names, " "))
	m.images = append(m.images, agent.ImageUsage{Digest: digest})
	return nil
}

func (m *memory) ChangeImage(_ context.Context, id, digest string) error {
	return agent.Errorf(agent.CodeInternal, "nobody asks for it here")
}

func (m *memory) KeepImage(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ask("keep")
	m.images = append(m.images, agent.ImageUsage{Digest: "sha256:carried"})
	return nil
}

func (m *memory) RemoveImage(_ context.Context, digest string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ask("remove %s", digest)
	m.images = slices.DeleteFunc(m.images, func(i agent.ImageUsage) bool { return i.Digest == digest })
	return nil
}

// imageID is Podman's name for the one image of [podmanFake].
var imageID = strings.Repeat("ab", 32)

// podmanFake is Podman's service with one image, that of a registry, and one
// container of a workspace's at most.
type podmanFake struct {
	mu     sync.Mutex
	asked  []string
	stored bool // the image is in its store
	labels map[string]string
	state  string // of the container, "" is none
	cut    bool   // the export ends early
	volume string // label of the workspace that has the volume, "" is no volume
}

func (p *podmanFake) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	said := strings.Join(p.asked, ", ")
	p.asked = nil
	return said
}

func (p *podmanFake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, rest, _ := strings.Cut(r.URL.Path, "/libpod/")
	call := r.Method + " " + strings.ReplaceAll(rest, containerName(id), "ONE")
	missing := func() {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"cause":"none","message":"none","response":404}`)
	}
	if !strings.HasSuffix(rest, "/json") && !strings.HasSuffix(rest, "/exists") && !strings.HasSuffix(rest, "_ping") {
		p.asked = append(p.asked, call)
	}

	switch {
	case path.Base(r.URL.Path) == "_ping":
		w.Header().Set("Libpod-API-Version", "5.4.2")
	case strings.HasSuffix(rest, "/exists"):
		if !p.stored {
			missing()
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case rest == "images/pull":
		p.stored = true
		fmt.Fprintf(w, `{"id":%q,"images":[%q]}`, imageID, imageID)
	case strings.HasPrefix(rest, "images/") && strings.HasSuffix(rest, "/json"):
		fmt.Fprintf(w, `{"Id":%q,"Config":{"User":"own","Cmd":["serve"]}}`, imageID)
	case rest == "images/remove":
		p.stored = false
		fmt.Fprint(w, `{}`)
	case rest == "containers/create":
		var s struct {
			Name   string            `json:"name"`
			Labels map[string]string `json:"labels"`
		}
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			panic(err)
		}
		if s.Name == containerName(id) {
			p.state, p.labels = "created", s.Labels
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"Id":"1"}`)
	case strings.HasSuffix(rest, "/export"):
		var b bytes.Buffer
		a := tar.NewWriter(&b)
		_ = a.WriteHeader(&tar.Header{Name: "etc/hosts", Size: 3, Mode: 0o644})
		_, _ = a.Write([]byte("one"))
		_ = a.Close()
		if p.cut {
			w.Header().Set("Content-Length", fmt.Sprint(b.Len()))
			b.Truncate(100)
		}
		_, _ = w.Write(b.Bytes())
	case rest == "containers/json" && p.state != "" && !strings.Contains(r.URL.RawQuery, "unpack"):
		b, _ := json.Marshal([]map[string]any{{"Names": []string{containerName(id)}, "Labels": p.labels, "State": p.state}})
		_, _ = w.Write(b)
	case rest == "containers/json":
		fmt.Fprint(w, `[]`)
	case rest == "volumes/json":
		fmt.Fprint(w, `[]`)
	case strings.HasPrefix(rest, "volumes/") && p.volume != "":
		if r.Method == http.MethodDelete {
			p.volume = ""
			w.WriteHeader(http.StatusNoContent)
			return
		}
		fmt.Fprintf(w, `{"Name":%q,"Labels":{%q:%q}}`, volumeName(id), labelID, p.volume)
	case strings.HasPrefix(rest, "containers/"+containerName(id)) && p.state != "":
		switch {
		case strings.HasSuffix(rest, "/json"):
			b, _ := json.Marshal(map[string]any{"Config": map[string]any{"Labels": p.labels}, "State": map[string]any{"Status": p.state}})
			_, _ = w.Write(b)
		case strings.HasSuffix(rest, "/start"):
			p.state = "running"
			w.WriteHeader(http.StatusNoContent)
		case strings.HasSuffix(rest, "/stop"):
			p.state = "exited"
			w.WriteHeader(http.StatusNoContent)
		case r.Method == http.MethodDelete:
			p.state = ""
			fmt.Fprint(w, `[]`)
		default:
			missing()
		}
	default:
		missing()
	}
}

// fakes are an engine, and what it asks.
func fakes(t *testing.T) (*Engine, *podmanFake, *memory) {
	t.Helper()
	p, m := &podmanFake{}, &memory{}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(p)
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	return &Engine{
		Socket: socket, Storage: m,
		Carried: Carried{fstest.MapFS{"config.json": {Data: []byte(`{"config":{"User":"admin"}}`)}, "digest": {Data: []byte("sha256:carried\n")}}},
		Catalog: Catalog{filepath.Join(t.TempDir(), "images")},
		Now:     time.Now, Log: slog.New(slog.DiscardHandler),
	}, p, m
}

// carry has the VM carry another image, as after an update.
func carry(e *Engine, digest string) {
	e.Carried.FS = fstest.MapFS{"config.json": {Data: []byte(`{"config":{"User":"newer"}}`)}, "digest": {Data: []byte(digest)}}
}

// TestEngine_Shown: files are shown before a container is made or started, and
// no longer than it runs.
func TestEngine_Shown(t *testing.T) {
	e, p, m := fakes(t)
	ctx := t.Context()
	c := one
	c.Quota = 5 << 30
	want := func(what, podman, storage string) {
		t.Helper()
		if got := p.said(); got != podman {
			t.Errorf("%s: Podman was asked %s, want %s", what, got, podman)
		}
		if got := m.said(); got != storage {
			t.Errorf("%s: the storage was asked %s, want %s", what, got, storage)
		}
	}

	for _, step := range []struct {
		what            string
		do              func() error
		podman, storage string
	}{
		{"create", func() error { return e.Create(ctx, c) }, "POST containers/create", "open sha256:carried"},
		{"again", func() error { return e.Create(ctx, c) }, "", "open sha256:carried"},
		{"another quota", func() error { c.Quota *= 2; return e.Create(ctx, c) }, "", "open sha256:carried, quota 10737418240"},
		{"start", func() error { return e.Start(ctx, id) }, "POST containers/ONE/start", "open sha256:carried"},
		{"tidy", func() error { return e.Tidy(ctx) }, "", "keep"},
		{"tidy again", func() error { return e.Tidy(ctx) }, "", ""},
		{"stop", func() error { return e.Stop(ctx, id, time.Second) }, "POST containers/ONE/stop", "close"},
		{"start", func() error { return e.Start(ctx, id) }, "POST containers/ONE/start", "open sha256:carried"},
		{"it ends by itself", func() error { p.state = "exited"; return e.Tidy(ctx) }, "", "close"},
		{"update of the VM", func() error { carry(e, "sha256:newer"); return e.Create(ctx, c) }, "", "open sha256:carried"},
		{"remove", func() error { return e.Remove(ctx, id) }, "DELETE containers/ONE", "close, remove"},
		{"tidy when it is gone", func() error { return e.Tidy(ctx) }, "", "remove sha256:carried"}, // the VM carries a newer one
		{"remove again", func() error { return e.Remove(ctx, id) }, "", "close, remove"},
		{"create anew", func() error { return e.Create(ctx, c) }, "POST containers/create", "open sha256:newer"},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		want(step.what, step.podman, step.storage)
	}

	m.busy = true
	if err := e.Stop(ctx, id, 0); err != nil {
		t.Errorf("stop, while something keeps the files: %v", err)
	}
	if err := e.Remove(ctx, id); agent.ErrorCode(err) != agent.CodeConflict {
		t.Errorf("remove, while something keeps the files: %v", err)
	}
}

// TestEngine_TakesOver: what an earlier release made is ended before its files
// are taken over, and goes after that.
func TestEngine_TakesOver(t *testing.T) {
	e, p, m := fakes(t)
	p.state, p.volume = "running", id
	p.labels = map[string]string{labelID: id, labelSlot: "3", labelSpec: "earlier"}
	if refs, err := e.List(t.Context()); err != nil || len(refs) != 1 || refs[0].Status != agent.ContainerRunning {
		t.Errorf("before: %+v, %v", refs, err)
	}
	var told []string
	ctx := agent.WithProgress(t.Context(), func(s string) { told = append(told, s) })
	if err := e.Create(ctx, one); err != nil {
		t.Fatal(err)
	}
	if got, want := p.said(), "POST containers/ONE/stop, DELETE containers/ONE, GET volumes/ONE-home/json, DELETE volumes/ONE-home, POST containers/create"; strings.ReplaceAll(got, "GET volumes/ONE-home/json, ", "") != strings.ReplaceAll(want, "GET volumes/ONE-home/json, ", "") {
		t.Errorf("Podman was asked %s, want %s", got, want)
	}
	if got := m.said(); got != "open sha256:carried" || !slices.Equal(told, []string{"taken over"}) {
		t.Errorf("the storage was asked %s and told %q", got, told)
	}
	refs, err := e.List(t.Context())
	if want := (agent.ContainerRef{ID: id, Name: one.Name, Slot: one.Slot, Status: agent.ContainerStopped, HasHome: true}); err != nil || !slices.Equal(refs, []agent.ContainerRef{want}) {
		t.Errorf("listed %+v, %v, want %+v", refs, err, want)
	}

	other := one
	other.ID = "0000000000000000000000002"
	if err := e.Create(t.Context(), other); agent.ErrorCode(err) != agent.CodeConflict {
		t.Errorf("the slot of another's files: %v", err)
	}
}

// TestEngine_OwnImage: an image is pulled once, lives in the storage alone, and
// goes with the last workspace that was made from it.
func TestEngine_OwnImage(t *testing.T) {
	e, p, m := fakes(t)
	ctx := t.Context()
	own := one
	own.Image = "example.org/ide:1"
	digest := "sha256:" + imageID
	unpacker := unpackName + imageID[:12]

	p.cut = true
	if err := e.Create(ctx, own); err == nil || agent.ErrorCode(err) == agent.CodeNoSpace {
		t.Errorf("an archive that was cut: %v", err)
	}
	p.cut, m.full = false, true
	if err := e.Create(ctx, own); agent.ErrorCode(err) != agent.CodeNoSpace {
		t.Errorf("no room: %v", err)
	}
	if len(m.images) > 0 || len(m.files) > 0 || p.state != "" {
		t.Errorf("after failures: images %v, files %v, container %q", m.images, m.files, p.state)
	}
	m.full = false
	p.said()
	m.said()

	if err := e.Create(ctx, own); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{"DELETE containers/" + unpacker, "POST containers/create", "GET containers/" + unpacker + "/export", "DELETE containers/" + unpacker, "POST containers/create", "DELETE images/remove"}, ", ")
	if got := p.said(); got != want {
		t.Errorf("Podman was asked %s, want %s", got, want)
	}
	if got, want := m.said(), "add "+digest+" etc/hosts, open "+digest; got != want {
		t.Errorf("the storage was asked %s, want %s", got, want)
	}
	if p.stored {
		t.Error("the image is in Podman's store, too")
	}

	second := own
	second.ID, second.Slot, second.Port = "0000000000000000000000002", 4, 20002
	if err := e.Create(ctx, second); err != nil {
		t.Fatal(err)
	}
	if got := p.said(); got != "POST containers/create" {
		t.Errorf("for the second workspace Podman was asked %s", got)
	}
	if err := e.Remove(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := e.Tidy(ctx); err != nil || len(m.images) != 1 {
		t.Errorf("while one needs it: %v, %v", m.images, err)
	}
	if err := e.Remove(ctx, second.ID); err != nil {
		t.Fatal(err)
	}
	if err := e.Tidy(ctx); err != nil || len(m.images) != 0 {
		t.Errorf("when none needs it: %v, %v", m.images, err)
	}
	if known, err := e.Catalog.all(); err != nil || len(known) != 0 {
		t.Errorf("remembered: %v, %v", known, err)
	}
}

// TestEngine_ImageGone: a workspace whose image nobody remembers says so, and
// is not started from another.
func TestEngine_ImageGone(t *testing.T) {
	e, _, m := fakes(t)
	m.files = []agent.FilesUsage{{Files: agent.Files{ID: id, Slot: one.Slot, Image: "sha256:lost"}}}
	if err := e.Create(t.Context(), one); agent.ErrorCode(err) != agent.CodeValidation || !strings.Contains(err.Error(), "sha256:lost") {
		t.Errorf("%v", err)
	}
	if got := m.said(); got != "" {
		t.Errorf("the storage was asked %s", got)
	}
}

// TestCatalog: what is no image of the catalog's is passed over.
func TestCatalog(t *testing.T) {
	c := Catalog{filepath.Join(t.TempDir(), "images")}
	if all, err := c.all(); err != nil || len(all) != 0 {
		t.Errorf("none: %v, %v", all, err)
	}
	if err := errors.Join(c.put(carriedImage()), c.put(carriedImage())); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"sha256-2.json": "{", "sha256-3.json": `{"digest":"sha256:4"}`} {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := c.all()
	if err != nil || len(all) != 1 || all[0].Config.User != "admin" || all[0].Digest != "sha256:1" {
		t.Errorf("%+v, %v", all, err)
	}
	for range 2 {
		if err := c.forget("sha256:1"); err != nil {
			t.Error(err)
		}
	}
}

// TestTurns: one after the other, and nothing is kept of those who are through.
func TestTurns(t *testing.T) {
	var all turns
	release, err := all.take(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := all.tryTake(id); ok {
		t.Error("a turn was taken twice")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := all.take(ended, id); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting until the end of a context: %v", err)
	}
	release()
	release, ok := all.tryTake(id)
	if !ok {
		t.Fatal("a turn that was given back is not free")
	}
	release()
	if len(all.byID) != 0 {
		t.Errorf("kept: %v", all.byID)
	}
}
