package http_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	nethttp "net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/client"
	"github.com/rockpool/rootvm/agent/http"
)

// live serves s on a unix socket until the test ends or stop is called.
func live(t *testing.T, s *http.Server) (c *client.Client, stop func() error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.sock")
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // until after the clean-ups
	l, err := http.Listen(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l, 10*time.Second); close(served) }()
	stop = func() error { cancel(); return <-served }
	t.Cleanup(func() { _ = stop() })
	return client.Unix(path), stop
}

func with(f *fake) *http.Server {
	s := server(fakeDB{})
	s.ControlPlane, s.Gateway = f, gateOf(f)
	return s
}

// open begins a stream and returns its lines.
func open(t *testing.T, s *http.Server, target string, header ...string) (*nethttp.Response, *bufio.Scanner) {
	t.Helper()
	ts := httptest.NewServer(s.Handler())
	t.Cleanup(ts.Close)
	r, err := nethttp.NewRequestWithContext(t.Context(), "GET", ts.URL+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := nethttp.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp, bufio.NewScanner(resp.Body)
}

// expect reads the lines of want.
func expect(t *testing.T, lines *bufio.Scanner, want ...string) {
	t.Helper()
	for _, w := range want {
		if !lines.Scan() || lines.Text() != w {
			t.Fatalf("line %q, want %q (%v)", lines.Text(), w, lines.Err())
		}
	}
}

func TestServer_events(t *testing.T) {
	f := newFake(agent.StatusRunning)
	resp, lines := open(t, with(f), "/api/events")
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("type %q", kind)
	}
	expect(t, lines, "retry: 1000", "", "event: reset", "data: {}", "")
	f.emit(agent.Event{Kind: agent.EventDeleted, WorkspaceID: id(9)})
	expect(t, lines,
		"id: life-1", "event: deleted",
		`data: {"workspaceId":"`+id(9)+`","workspace":null,"step":null,"name":null,"at":"2026-01-02T03:04:05.678Z"}`, "")

	f.emit(agent.Event{Kind: agent.EventPreference, Name: "GitConfig"})
	_, again := open(t, with(f), "/api/events", "Last-Event-ID", "life-1")
	expect(t, again, "retry: 1000", "", "id: life-2", "event: setting")
	_, later := open(t, with(f), "/api/events", "Last-Event-ID", "other-life-7")
	expect(t, later, "retry: 1000", "", "event: reset")
}

func TestServer_events_heartbeat(t *testing.T) {
	s := with(newFake())
	s.Heartbeat = time.Millisecond
	_, lines := open(t, s, "/api/events", "Last-Event-ID", "life-0")
	expect(t, lines, "retry: 1000", "", ": heartbeat", "", ": heartbeat")
}

func TestServer_events_tooSlow(t *testing.T) {
	f := newFake()
	f.slow = true
	_, lines := open(t, with(f), "/api/events", "Last-Event-ID", "life-0")
	expect(t, lines, "retry: 1000", "")
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("the stream goes on: %q, %v", lines.Text(), lines.Err())
	}
}

// TestServer_Serve_streams: a stream ends at once when the agent stops, and
// does not hold it up.
func TestServer_Serve_streams(t *testing.T) {
	f := newFake(agent.StatusRunning)
	f.logs = func(ctx context.Context, w io.Writer) error {
		_, _ = io.WriteString(w, "hello\n")
		<-ctx.Done()
		return ctx.Err()
	}
	c, stop := live(t, with(f))
	opened, events := make(chan struct{}, 2), make(chan error, 2)
	go func() {
		for e, err := range c.Events(t.Context(), "") {
			if err != nil {
				events <- err
				return
			}
			if e.Reset {
				opened <- struct{}{}
			}
		}
		events <- nil
	}()
	go func() {
		events <- c.Logs(t.Context(), id(1), 10, true, writerFunc(func([]byte) { opened <- struct{}{} }))
	}()
	<-opened
	<-opened
	start := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the streams held the end up for %s", took)
	}
	for range 2 {
		if err := <-events; err != nil {
			t.Errorf("stream: %v", err)
		}
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

// TestServer_logs_cut: a log that breaks off does not look whole.
func TestServer_logs_cut(t *testing.T) {
	f := newFake(agent.StatusRunning)
	f.logs = func(_ context.Context, w io.Writer) error {
		_, _ = io.WriteString(w, "half\n")
		return errSecret
	}
	var b bytes.Buffer
	c, _ := live(t, with(f))
	if err := c.Logs(t.Context(), id(1), 10, false, &b); err == nil || b.String() != "half\n" {
		t.Errorf("%q, %v", &b, err)
	}
}

func TestServer_logs_followSteps(t *testing.T) {
	f := newFake(agent.StatusCreating)
	_, lines := open(t, with(f), "/api/workspaces/"+id(1)+"/logs?source=steps&follow=1")
	expect(t, lines,
		"2026-01-02T03:04:06.678Z create Preparing the container: done after 1.0 s",
		"2026-01-02T03:04:06.678Z create Starting the container")
	f.emit(agent.Event{Kind: agent.EventStep, WorkspaceID: id(2), Step: &agent.Step{Title: "another's"}})
	f.emit(agent.Event{Kind: agent.EventStep, WorkspaceID: id(1), Step: &agent.Step{
		Job: agent.JobCreate, Title: "Starting the container", State: agent.StepFailed, StartedAt: born, EndedAt: born.Add(1500 * time.Millisecond), Message: "Podman is gone.",
	}})
	expect(t, lines, "2026-01-02T03:04:07.178Z create Starting the container: failed after 1.5 s: Podman is gone.")
	f.emit(agent.Event{Kind: agent.EventDeleted, WorkspaceID: id(1)})
	if lines.Scan() {
		t.Errorf("goes on after the end: %q", lines.Text())
	}
}

// TestClient is the client against the real handlers.
func TestClient(t *testing.T) {
	f := newFake(agent.StatusRunning, agent.StatusStopped)
	c, stop := live(t, with(f))
	ctx := t.Context()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must("health", c.Healthy(ctx))
	w, err := c.CreateWorkspace(ctx, agent.NewWorkspace{Name: "new", Description: "d", RepositoryID: "me/x", AutoSyncPrefs: true, Token: "s3cr3t"})
	must("create", err)
	if f.tokens[0] != "s3cr3t" || w.Status != agent.StatusCreating || w.Description != "d" || w.RepositoryID != "me/x" || !w.AutoSyncPrefs || !w.CreatedAt.Equal(born.Add(3*time.Second).Truncate(time.Millisecond)) {
		t.Errorf("created %+v", w)
	}
	page, next, err := c.ListWorkspaces(ctx, agent.Cursor{}, 2)
	must("list", err)
	if len(page) != 2 || page[0].ID != w.ID || next.ID != page[1].ID {
		t.Errorf("page %+v, next %+v", page, next)
	}
	page, next, err = c.ListWorkspaces(ctx, next, 2)
	must("list", err)
	if len(page) != 1 || page[0].Name != "ws-1" || page[0].Address == "" || next.ID != "" {
		t.Errorf("last page %+v, next %+v", page, next)
	}
	one, err := c.WorkspaceByName(ctx, "ws-2")
	must("by name", err)
	_, err = c.StartWorkspace(ctx, one.ID)
	must("start", err)
	_, err = c.StartWorkspace(ctx, one.ID)
	if e, ok := errors.AsType[*agent.Error](err); !ok || e.Code != agent.CodeConflict || e.Message != `Cannot transition from "creating" to "creating"` {
		t.Errorf("start: %v", err)
	}
	w, err = c.StopWorkspace(ctx, one.ID) // on its way up
	must("stop", err)
	if w.Status != agent.StatusStopping {
		t.Errorf("stopped on its way up: %+v", w)
	}
	_, err = c.WorkspaceByName(ctx, "none")
	if agent.ErrorCode(err) != agent.CodeNotFound {
		t.Errorf("by name: %v", err)
	}
	_, err = c.AddPort(ctx, id(1), agent.NewPort{Port: 80})
	if e, ok := errors.AsType[*agent.Error](err); !ok || e.Code != agent.CodeValidation || len(e.Fields) != 1 {
		t.Errorf("add port: %v", err)
	}
	p, err := c.AddPort(ctx, id(1), agent.NewPort{Port: 3000, Label: "web"})
	must("add port", err)
	ports, err := c.ListPorts(ctx, id(1))
	must("ports", err)
	if len(ports) != 1 || ports[0] != p || p.Label != "web" {
		t.Errorf("ports %+v, added %+v", ports, p)
	}
	must("remove port", c.RemovePort(ctx, id(1), 3000))
	all, err := c.Listening(ctx, id(1))
	must("listening", err)
	if len(all) != 2 || all[0].Program != "node" || len(all[0].Addresses) != 1 || all[1].Port != 5432 || all[1].Program != "" {
		t.Errorf("listening %+v", all)
	}
	saved, err := c.SavePreference(ctx, agent.PreferenceGit, id(1), "")
	must("save", err)
	prefs, err := c.ListPreferences(ctx)
	must("settings", err)
	again, err := c.Preference(ctx, agent.PreferenceGit)
	must("setting", err)
	if len(prefs) != 1 || prefs[0] != saved || again != saved || saved.Blob != "{\"a\":\t1}\n" {
		t.Errorf("settings %+v, saved %+v, read %+v", prefs, saved, again)
	}
	clientPreferences(ctx, t, c)
	steps, err := c.Steps(ctx, id(1))
	must("steps", err)
	if len(steps) != 2 || steps[0].EndedAt.Sub(steps[0].StartedAt) != time.Second || !steps[1].EndedAt.IsZero() {
		t.Errorf("steps %+v", steps)
	}
	u, err := c.Usage(ctx, id(1))
	must("usage", err)
	if u.CPU != 0.5 || u.Pids != 7 {
		t.Errorf("usage %+v", u)
	}
	var b bytes.Buffer
	must("logs", c.Logs(ctx, id(1), 3, false, &b))
	must("step log", c.StepLog(ctx, id(1), 1, false, &b))
	if got := b.String(); !strings.HasPrefix(got, "tail 3 follow false\n") || !strings.HasSuffix(got, "create Starting the container\n") {
		t.Errorf("logs %q", got)
	}
	must("delete", func() error {
		f.workspaces[len(f.workspaces)-1].Status = agent.StatusError
		return c.DeleteWorkspace(ctx, id(1))
	}())
	must("stop serving", stop())
	if _, err := c.Workspace(ctx, id(2)); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestClient_Events(t *testing.T) {
	f := newFake(agent.StatusRunning)
	c, _ := live(t, with(f))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []client.Event
	for e, err := range c.Events(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
		switch len(got) {
		case 1:
			f.emit(agent.Event{Kind: agent.EventWorkspace, WorkspaceID: id(1), Workspace: &f.workspaces[0]})
			f.emit(agent.Event{Kind: agent.EventStep, WorkspaceID: id(1), Step: &agent.Step{Name: agent.StepStart}})
		case 3:
			cancel()
		}
	}
	if len(got) != 3 || !got[0].Reset || got[1].ID != "life-1" || got[1].Workspace.Name != "ws-1" || got[2].Seq != 2 || got[2].Step.Name != agent.StepStart {
		t.Errorf("events %+v", got)
	}
}

// TestClient_Runtime: each method of the runtime arrives as it was called.
func TestClient_Runtime(t *testing.T) {
	rt := &fakeRuntime{}
	s := server(fakeDB{})
	s.Runtime = rt
	c, _ := live(t, s)
	var r agent.Runtime = c.Runtime()
	ctx, one := t.Context(), id(1)
	for want, err := range map[string]func() error{
		"create {ID:" + one + " Name:abc Image:x Port:20001 Slot:3 Memory:1073741824 Quota:5}": func() error {
			return r.Create(ctx, agent.Container{ID: one, Name: "abc", Image: "x", Port: 20001, Slot: 3, Memory: 1 << 30, Quota: 5})
		},
		"start " + one:                            func() error { return r.Start(ctx, one) },
		"stop " + one + " 1.5s":                   func() error { return r.Stop(ctx, one, 1500*time.Millisecond) },
		"remove " + one:                           func() error { return r.Remove(ctx, one) },
		"configure {Name:abc Folder:/home/admin}": func() error { return r.Configure(ctx, one, agent.IDEConfig{Name: "abc", Folder: "/home/admin"}) },
		"clone {URL:https://x.example/y Folder:/home/admin/y Token:t}": func() error {
			return r.Clone(ctx, one, agent.Clone{URL: "https://x.example/y", Folder: "/home/admin/y", Token: "t"})
		},
		"write a b": func() error { return r.WriteFile(ctx, one, "a b", []byte("\x00\xff")) },
	} {
		if err := err(); err != nil || rt.last != want {
			t.Errorf("%v, %q, want %q", err, rt.last, want)
		}
	}
	if b, err := r.ReadFile(ctx, one, "a b"); err != nil || string(b) != "\x00\xff" {
		t.Errorf("read: %q, %v", b, err)
	}
	if _, err := r.ReadFile(ctx, one, "none"); agent.ErrorCode(err) != agent.CodeNotFound {
		t.Errorf("read: %v", err)
	}
	if st, err := r.Status(ctx, ids.missing); err != nil || st != agent.ContainerNotFound {
		t.Errorf("status: %q, %v", st, err)
	}
	if a, err := r.Address(ctx, one); err != nil || a != "127.0.0.1:20001" {
		t.Errorf("address: %q, %v", a, err)
	}
	if err := r.WriteFile(ctx, one, "a", make([]byte, agent.MaxFileSize+1)); agent.ErrorCode(err) != agent.CodeTooLarge {
		t.Errorf("write too much: %v", err)
	}
}

// TestServer_log: one line for each request, without the query, without a
// token, and with the fault that the client is not told.
func TestServer_log(t *testing.T) {
	var b bytes.Buffer
	s := with(newFake(agent.StatusRunning))
	s.Log = slog.New(slog.NewTextHandler(&b, nil))
	h := s.Handler()
	h.ServeHTTP(httptest.NewRecorder(), call{method: "POST", target: "/api/workspaces?x=s3cr3t", body: `{"token":"s3cr3t"}`}.request())
	h.ServeHTTP(httptest.NewRecorder(), call{method: "POST", target: "/api/workspaces", body: `{"name":"abc","image":"","token":"s3cr3t s3cr3t"}`}.request())
	h.ServeHTTP(httptest.NewRecorder(), call{method: "GET", target: "/api/workspaces/" + id(1)}.request()) // nothing to say
	f := newFake()
	f.fail = errors.New("disk broke")
	s.ControlPlane = f
	s.Handler().ServeHTTP(httptest.NewRecorder(), call{method: "GET", target: "/api/workspaces/" + id(1)}.request())
	got := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(got) != 3 || strings.Contains(b.String(), "s3cr3t") {
		t.Fatalf("log: %s", &b)
	}
	for _, want := range []string{"level=ERROR", "msg=request", "status=500", "workspace=" + id(1), `err="disk broke"`} {
		if !strings.Contains(got[2], want) {
			t.Errorf("no %s in %s", want, got[2])
		}
	}
}

// TestServer_route: the gateway answers at its path, on the servers that have
// no API, and its faults are told as all others are.
func TestServer_route(t *testing.T) {
	for name, tt := range map[string]struct {
		server, uri string
		fail        error
		status      int
		upstream    string
		location    string
	}{
		"running":   {"srv1", "/workspace/ws-2/a%2Fb?x=1", nil, 200, "127.0.0.1:20001", ""},
		"preview":   {"srv2", "/workspace/ws-2/port/3000/", nil, 200, "127.0.0.1:20001", ""},
		"no slash":  {"srv1", "/workspace/ws-2?folder=/a", nil, 302, "", "/workspace/ws-2/?folder=/a"},
		"unknown":   {"srv1", "/workspace/none/", nil, 404, "", ""},
		"stopped":   {"srv1", "/workspace/ws-3/", nil, 503, "", ""},
		"fault":     {"srv1", "/workspace/ws-2/", errSecret, 500, "", ""},
		"elsewhere": {"srv2", "//evil.example/", nil, 404, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(agent.StatusCreating, agent.StatusRunning, agent.StatusStopped)
			f.fail = tt.fail
			r := httptest.NewRequest("GET", "http://box.local:9081/internal/route", nil)
			r.Header.Set("X-Rockpool-Server", tt.server)
			r.Header.Set("X-Rockpool-Upstream", "127.0.0.1:22") // a client's own wish
			r.Header.Set("X-Forwarded-Uri", tt.uri)
			w := httptest.NewRecorder()
			with(f).Handler().ServeHTTP(w, r)
			if w.Code != tt.status || w.Header().Get("X-Rockpool-Upstream") != tt.upstream || w.Header().Get("Location") != tt.location || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
			}
		})
	}
}

func TestSPA(t *testing.T) {
	if _, err := http.SPA(fstest.MapFS{}); err == nil || !strings.Contains(err.Error(), "build it first") {
		t.Errorf("empty directory: %v", err)
	}
	h, err := http.SPA(fstest.MapFS{
		"index.html":      {Data: []byte("<title>index")},
		"favicon.svg":     {Data: []byte("<svg/>")},
		"assets/a-1.js":   {Data: []byte("alert(1)")},
		"assets/d/b-2.js": {Data: []byte("alert(2)")},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := server(fakeDB{})
	s.Dashboard = h
	for target, want := range map[string]struct {
		status      int
		cache, text string
	}{
		"/app/":                {200, "no-cache", "<title>index"},
		"/app/workspaces":      {200, "no-cache", "<title>index"},
		"/app/workspaces/x/y":  {200, "no-cache", "<title>index"},
		"/app/index.html":      {200, "no-cache", "<title>index"},
		"/app/favicon.svg":     {200, "no-cache", "<svg/>"},
		"/app/assets/a-1.js":   {200, "public, max-age=31536000, immutable", "alert(1)"},
		"/app/assets/d/b-2.js": {200, "public, max-age=31536000, immutable", "alert(2)"},
		"/app/assets/none.js":  {404, "", ""},
		"/app/assets":          {200, "no-cache", "<title>index"},
	} {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		if w.Code != want.status || want.cache != "" && w.Header().Get("Cache-Control") != want.cache || !strings.Contains(w.Body.String(), want.text) {
			t.Errorf("%s: %d %v %s", target, w.Code, w.Header(), w.Body)
		}
	}
}

// TestSPA_policy looks at what the application's page may do: what was built
// into it, and nothing that was put there later.
func TestSPA_policy(t *testing.T) {
	const inline = "\n\tif (dark) {\r\n\t}\n"
	hash := func(script string) string {
		sum := sha256.Sum256([]byte(script))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	files := fstest.MapFS{"favicon.svg": {Data: []byte("<svg/>")}}
	for name, tt := range map[string]struct{ page, scripts string }{
		"no script":      {"<title>index", "'self'"},
		"files only":     {`<script type="module" crossorigin src="/app/assets/a.js"></script><SCRIPT SRC = 'b.js'></SCRIPT>`, "'self'"},
		"one inline":     {"<head><script>" + inline + `</script><script src="/app/assets/a.js"></script>`, "'self' " + hash("\n\tif (dark) {\n\t}\n")},
		"two, one typed": {`<script>a()</script><Script type="module" data-src="x">b()</script >`, "'self' " + hash("a()") + " " + hash("b()")},
	} {
		files["index.html"] = &fstest.MapFile{Data: []byte(tt.page)} // built anew each time
		h, err := http.SPA(files)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/app/workspaces", nil))
		policy := w.Header().Get("Content-Security-Policy")
		if !strings.Contains(policy, "; script-src "+tt.scripts+"; ") || !strings.Contains(policy, "img-src 'self' data: https:;") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe-eval") {
			t.Errorf("%s: %s", name, policy)
		}
		if w.Body.String() != tt.page {
			t.Errorf("%s: %q", name, w.Body)
		}
	}
	h, err := http.SPA(files)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/app/favicon.svg", nil))
	if got := w.Header().Get("Content-Security-Policy"); got != "" {
		t.Errorf("a file has the page's policy: %s", got)
	}
	delete(files, "index.html") // while it is built
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/app/workspaces", nil))
	if w.Code != 500 || !strings.Contains(w.Body.String(), "build it") {
		t.Errorf("no page: %d %s", w.Code, w.Body)
	}
}

func TestSPAProxy(t *testing.T) {
	var got *nethttp.Request
	dev := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		got = r
		_, _ = io.WriteString(w, "dev")
	}))
	u, err := url.Parse(dev.URL)
	if err != nil {
		t.Fatal(err)
	}
	h, err := http.SPAProxy(u, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := server(fakeDB{})
	s.Dashboard = h
	ask := func() *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/app/src/main.tsx?t=1", nil)
		for _, name := range []string{"Authorization", "Cookie", "X-Rockpool-User"} {
			r.Header.Set(name, "secret")
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
	w := ask()
	if w.Code != 200 || w.Body.String() != "dev" || got.URL.String() != "/app/src/main.tsx?t=1" || !strings.Contains(w.Header().Get("Content-Security-Policy"), "unsafe-inline") ||
		!strings.Contains(w.Header().Get("Content-Security-Policy"), "img-src 'self' data: blob: https:;") {
		t.Errorf("%d %s, asked for %s", w.Code, w.Body, got.URL)
	}
	for name, values := range got.Header {
		if strings.Contains(values[0], "secret") {
			t.Errorf("%s went out", name)
		}
	}
	dev.Close()
	if w := ask(); w.Code != 502 || !strings.Contains(w.Body.String(), "is it running?") {
		t.Errorf("nobody there: %d %s", w.Code, w.Body)
	}
	if _, err := http.SPAProxy(&url.URL{Scheme: "file", Path: "/"}, nil); err == nil {
		t.Error("a file is no server")
	}
}

// clientPreferences drives what the client offers for differences.
func clientPreferences(ctx context.Context, t *testing.T, c *client.Client) {
	t.Helper()
	want := difference(agent.PreferenceKeybindings, id(1))
	_, err := c.SavePreference(ctx, want.Name, id(1), "")
	if e, ok := errors.AsType[*agent.Error](err); !ok || e.Code != agent.CodeConflict || e.Difference == nil || e.Difference.Digest() != want.Digest() {
		t.Errorf("save what can run programs: %+v", err)
	}
	if _, err := c.SavePreference(ctx, want.Name, id(1), want.Digest()); err != nil {
		t.Errorf("confirm: %v", err)
	}
	times, err := c.PreferenceTimes(ctx)
	if err != nil || len(times) != 2 || !times[want.Name].Equal(born.Truncate(time.Millisecond)) {
		t.Errorf("times: %v, %v", times, err)
	}
	if err := c.RemovePreference(ctx, want.Name); err != nil {
		t.Errorf("remove: %v", err)
	}
	for _, key := range []string{"", id(1)} {
		notes, err := c.PreferenceNotes(ctx, key)
		if err != nil || len(notes) != 1 || notes[0].Kind != agent.NoteFault || notes[0].Name != agent.IDEConfiguration || notes[0].WorkspaceID != id(2) {
			t.Errorf("notes: %+v, %v", notes, err)
		}
	}
	got, err := c.PreferenceDifference(ctx, id(1), want.Name)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("difference: %+v, %v", got, err)
	}
	if err := c.ResolvePreference(ctx, id(1), want.Name, agent.ChooseFound, want.Digest()); err != nil {
		t.Errorf("resolve: %v", err)
	}
}
