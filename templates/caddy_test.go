package templates_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/templates"
)

// password of the user admin.
const password = "secret"

// front is a real Caddy, of whatever version from 2.6 on the machine has, in
// front of an agent and a workspace that the test plays.
type front struct {
	t      *testing.T
	params templates.Params
	ports  [3]int

	mu    sync.Mutex
	agent *http.Server
	// upstream is what the agent answers; "" is its 404 page.
	upstream string
	preview  string          // path of the socket of a preview
	asked    []*http.Request // what the agent was asked
	reached  []*http.Request // what reached the workspace
	bodies   []string        // of those
	app      http.Handler    // what runs in the workspace
}

// caddyCommand returns what makes commands of Caddy: the one of the tools tree,
// when a target says where that is, or the machine's own, as in the VM.
func caddyCommand(t *testing.T) func(ctx context.Context, args ...string) *exec.Cmd {
	t.Helper()
	if dir := os.Getenv("ROCKPOOL_TEST_TOOLS"); dir != "" {
		tools := &bootstrap.Tools{Dir: dir}
		return func(ctx context.Context, args ...string) *exec.Cmd { return tools.Command(ctx, "caddy", args...) }
	}
	path, err := exec.LookPath("caddy")
	if err != nil {
		t.Skip("there is no Caddy: `go tool mage e2e` fetches one and runs these tests")
	}
	return func(ctx context.Context, args ...string) *exec.Cmd { return exec.CommandContext(ctx, path, args...) }
}

func newFront(t *testing.T) *front {
	t.Helper()
	caddy := caddyCommand(t)
	dir, err := os.MkdirTemp("", "caddy") // a short path: the socket's has at most 107 characters
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &front{t: t, params: templates.Defaults()}
	f.params.RunDir = dir
	var held [3]net.Listener // Caddy's ports, until it starts: nobody else gets them
	for i := range held {
		if held[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		f.ports[i] = held[i].Addr().(*net.TCPAddr).Port
		f.params.Servers[i].Port = f.ports[i]
	}

	workspace := httptest.NewServer(http.HandlerFunc(f.workspace))
	t.Cleanup(workspace.Close)
	f.upstream = strings.TrimPrefix(workspace.URL, "http://")
	f.preview = filepath.Join(dir, "3000.sock")
	f.serveApplication()
	f.startAgent()
	t.Cleanup(func() { f.stopAgent() })
	if err := templates.Write(filepath.Join(dir, "tree"), f.params); err != nil {
		t.Fatal(err)
	}

	for _, l := range held {
		_ = l.Close()
	}
	f.startCaddy(caddy, dir)
	return f
}

func (f *front) startCaddy(caddy func(context.Context, ...string) *exec.Cmd, dir string) {
	f.t.Helper()
	var log bytes.Buffer
	cmd := caddy(f.t.Context(), "run", "--config", filepath.Join(dir, "tree/etc/rockpool/Caddyfile"), "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	ctx, cancel := context.WithCancel(f.t.Context())
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}

	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait(); cancel() }()
	f.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended
		if f.t.Failed() {
			f.t.Logf("caddy:\n%s", &log)
		}
	})

	// Caddy opens its servers' ports in no order.
	for _, port := range f.ports {
		f.waitFor(ctx, port)
	}
}

// waitFor waits until Caddy listens on the port; ctx ends with Caddy.
func (f *front) waitFor(ctx context.Context, port int) {
	f.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-ctx.Done():
			f.t.Fatalf("caddy ended before it listened on port %d", port)
		case <-tick.C:
		}
	}
}

func (f *front) startAgent() {
	f.t.Helper()
	l, err := net.Listen("unix", f.params.Socket())
	if err != nil {
		f.t.Fatal(err)
	}
	f.agent = &http.Server{Handler: http.HandlerFunc(f.serveAgent)}
	go func() { _ = f.agent.Serve(l) }()
}

// serveApplication is the relay: connections to the socket are the application's.
func (f *front) serveApplication() {
	f.t.Helper()
	l, err := net.Listen("unix", f.preview)
	if err != nil {
		f.t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(f.workspace)}
	go func() { _ = s.Serve(l) }()
	f.t.Cleanup(func() { _ = s.Close() })
}

func (f *front) stopAgent() { _ = f.agent.Close() }

// serveAgent is package http of the agent, reduced to the contract.
func (f *front) serveAgent(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r)
	if r.URL.Path == "/api/health" {
		_, _ = io.WriteString(w, "OK")
		return
	}
	name, given, _ := r.BasicAuth()
	if given != password {
		w.Header().Set("WWW-Authenticate", "Basic")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "who are you?")
		return
	}
	if r.URL.Path == "/" {
		http.Redirect(w, r, "/app/workspaces", http.StatusFound)
		return
	}
	if r.URL.Path == "/internal/route" && r.Header.Get("X-Rockpool-Server") != "srv0" {
		if f.upstream != "" {
			w.Header().Set("X-Rockpool-Upstream", f.upstream)
			if r.Header.Get("X-Rockpool-Server") == "srv2" {
				w.Header().Set("X-Rockpool-Upstream", "unix/"+f.preview)
			}
			return
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "no such workspace")
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff") // as package http does
	_, _ = fmt.Fprintf(w, "agent %s user=%s forged=%s server=%s upstream=%s", r.URL.Path, name,
		r.Header.Get("X-Rockpool-User"), r.Header.Get("X-Rockpool-Server"), r.Header.Get("X-Rockpool-Upstream"))
}

// workspace is an IDE and, behind the socket of a preview, its application: both
// record what reaches them.
func (f *front) workspace(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	f.reached = append(f.reached, r.Clone(context.WithoutCancel(r.Context())))
	f.bodies = append(f.bodies, string(body))
	app := f.app
	f.mu.Unlock()
	if app == nil {
		app = http.HandlerFunc(echo)
	}
	app.ServeHTTP(w, r)
}

// echo answers a WebSocket with what it says, and a request with its path.
func echo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		_, _ = io.WriteString(w, "workspace "+r.URL.RequestURI())
		return
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"vite-hmr"}})
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), kind, append([]byte(r.URL.Path+" "), b...)); err != nil {
			return
		}
	}
}

func (f *front) url(server int, path string) string {
	return fmt.Sprintf("http://127.0.0.1:%d%s", f.ports[server], path)
}

var noRedirects = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// do asks as the user, unless a header says otherwise.
func (f *front) do(method string, server int, path string, header ...string) (*http.Response, string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.url(server, path), nil)
	if err != nil {
		f.t.Fatal(err)
	}

	req.SetBasicAuth("admin", password)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}

	res, err := noRedirects.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}

	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return res, string(b)
}

func (f *front) decideOn(upstream string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.upstream, f.asked, f.reached = upstream, nil, nil
}

// last is the last request that reached the workspace.
func (f *front) last() *http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.reached) == 0 {
		return nil
	}
	return f.reached[len(f.reached)-1]
}

func TestCaddy_Paths(t *testing.T) {
	f := newFront(t)
	for name, tt := range map[string]struct {
		server int
		path   string
		status int
		want   string // beginning of the body, or the whole Location
	}{
		"root":                    {0, "/", 302, "/app/workspaces"},
		"dashboard":               {0, "/app/workspaces", 200, "agent /app/workspaces user=admin forged= server=srv0 upstream="},
		"API":                     {0, "/api/ping", 200, "agent /api/ping user=admin"},
		"internal":                {0, "/internal/route", 404, ""},
		"internal, other case":    {0, "/INTERNAL/route", 404, ""},
		"internal, encoded":       {0, "/%69nternal/route", 404, ""},
		"internal of the IDE":     {1, "/internal/route", 404, ""},
		"internal of previews":    {2, "/internal/route", 404, ""},
		"IDE":                     {1, "/workspace/mine/", 200, "workspace /"},
		"IDE, deep":               {1, "/workspace/mine/static/a.js?v=1&w=%2F", 200, "workspace /static/a.js?v=1&w=%2F"},
		"IDE, escaped":            {1, "/workspace/mine/a%2Fb%3Fc%20d/%252e", 200, "workspace /a%2Fb%3Fc%20d/%252e"},
		"IDE, own name":           {1, "/workspace/mine/workspace/mine/", 200, "workspace /workspace/mine/"},
		"IDE, query":              {1, "/workspace/mine/?folder=/home/admin/workspace/mine/src", 200, "workspace /?folder=/home/admin/workspace/mine/src"},
		"IDE, double slash":       {1, "/workspace/mine//x", 200, "workspace /x"},
		"elsewhere on the IDE's":  {1, "/app/workspaces", 404, ""},
		"preview":                 {2, "/workspace/mine/port/3000/", 200, "workspace /"},
		"preview, deep":           {2, "/workspace/mine/port/3000/a%2Fb?x=/y", 200, "workspace /a%2Fb?x=/y"},
		"preview, double slash":   {2, "/workspace/mine/port/3000//a//b%2F%2Fc//", 200, "workspace //a//b%2F%2Fc//"},
		"preview, an address":     {2, "/workspace/mine/port/3000/https://example.org/x", 200, "workspace /https://example.org/x"},
		"preview, query":          {2, "/workspace/mine/port/3000/a?next=/workspace/mine/port/3000/b", 200, "workspace /a?next=/workspace/mine/port/3000/b"},
		"preview without a port":  {2, "/workspace/mine/", 404, ""},
		"preview, port is a name": {2, "/workspace/mine/port/x/", 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			res, body := f.do("GET", tt.server, tt.path)
			got := body
			if res.StatusCode == http.StatusFound {
				got = res.Header.Get("Location")
			}
			if res.StatusCode != tt.status || !strings.HasPrefix(got, tt.want) {
				t.Errorf("%d %q, want %d %q", res.StatusCode, got, tt.status, tt.want)
			}
		})
	}
}

// TestCaddy_Hygiene: what is the dashboard's stays there, and no header of a
// request decides where it goes.
func TestCaddy_Hygiene(t *testing.T) {
	f := newFront(t)
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request chose its own upstream") }))
	defer evil.Close()
	address := strings.TrimPrefix(evil.URL, "http://")
	forged := []string{"X-Rockpool-Upstream", address, "X-Rockpool-Server", "srv0", "X-Rockpool-User", "root", "X-Forwarded-Uri", "/workspace/other/",
		"Cookie", "rockpool_session=1; theme=dark; Rockpool-x=2; app=3"}

	for server, path := range map[int]string{1: "/workspace/mine/", 2: "/workspace/mine/port/3000/"} {
		f.decideOn(f.upstream)
		res, body := f.do("POST", server, path, forged...)
		got := f.last()
		if res.StatusCode != http.StatusOK || got == nil {
			t.Fatalf("server %d: %d %s", server, res.StatusCode, body)
		}

		for name, values := range got.Header {
			if strings.HasPrefix(name, "X-Rockpool") || name == "Authorization" || strings.Contains(strings.ToLower(strings.Join(values, "")), "rockpool") && name == "Cookie" {
				t.Errorf("server %d: %s: %q reached the workspace", server, name, values)
			}
		}

		if c, err := got.Cookie("theme"); err != nil || c.Value != "dark" {
			t.Errorf("server %d: cookies of the workspace's own are gone: %q", server, got.Header["Cookie"])
		}
		if c, err := got.Cookie("app"); err != nil || c.Value != "3" {
			t.Errorf("server %d: cookies of the workspace's own are gone: %q", server, got.Header["Cookie"])
		}

		prefix := strings.TrimSuffix(path, "/")
		if got.Header.Get("X-Forwarded-Prefix") != prefix {
			t.Errorf("server %d: X-Forwarded-Prefix: %q", server, got.Header.Get("X-Forwarded-Prefix"))
		}

		asked := f.asked[0].Header
		if asked.Get("X-Forwarded-Uri") != path || asked.Get("X-Forwarded-Method") != "POST" || asked.Get("X-Rockpool-Server") != f.params.Servers[server].Name || asked.Get("Authorization") == "" {
			t.Errorf("server %d: the agent was asked %v", server, asked)
		}
	}

	f.decideOn("")
	if res, body := f.do("GET", 1, "/workspace/none/", forged...); res.StatusCode != http.StatusNotFound || body != "no such workspace" {
		t.Errorf("a workspace that is not there: %d %q", res.StatusCode, body)
	}
	if _, body := f.do("GET", 0, "/app/workspaces", forged...); !strings.Contains(body, "user=admin forged= server=srv0 upstream=") || strings.Contains(body, address) {
		t.Errorf("dashboard: %q", body)
	}
}

// TestCaddy_Cookies: what workspaces and other programs on the user's host store
// in the browser is not the agent's to see.
func TestCaddy_Cookies(t *testing.T) {
	f := newFront(t)
	big := "app=" + strings.Repeat("x", 8<<10)
	for server, path := range []string{"/app/workspaces", "/workspace/mine/", "/workspace/mine/port/3000/"} {
		f.decideOn(f.upstream)
		if res, body := f.do("GET", server, path, "Cookie", "rockpool_device=me.signed; theme=dark; "+big, "X-Rockpool-Device", "forged"); res.StatusCode != http.StatusOK {
			t.Fatalf("server %d: %d %s", server, res.StatusCode, body)
		}
		f.mu.Lock()
		asked := f.asked[len(f.asked)-1]
		f.mu.Unlock()
		if got := asked.Header["Cookie"]; got != nil {
			t.Errorf("server %d: the agent was sent %.80q with %s", server, got, asked.URL)
		}
		if got := asked.Header["X-Rockpool-Device"]; len(got) != 1 || got[0] != "me.signed" {
			t.Errorf("server %d: the agent was told of the device %q", server, got)
		}
		if got := asked.Header.Get("X-Forwarded-For"); got != "127.0.0.1" {
			t.Errorf("server %d: the agent was told of the source %q", server, got)
		}
		if server > 0 && len(f.last().Cookies()) != 2 {
			t.Errorf("server %d: the workspace was sent %.80q", server, f.last().Header["Cookie"])
		}
	}
}

// TestCaddy_Cookies_left: what is left of the cookies is a list as browsers send
// it, byte for byte, or none.
func TestCaddy_Cookies_left(t *testing.T) {
	f := newFront(t)
	for sent, want := range map[string]string{
		"rockpool_device=1; session=abc":                                    "session=abc",
		"rockpool_device=1":                                                 "",
		"rockpool_device=1; Rockpool-x=2":                                   "",
		"rockpool_device=1; Rockpool-x=2;rockpool=3; a=b":                   "a=b",
		"session=abc; rockpool_device=1":                                    "session=abc",
		"rockpool_session=1; theme=dark; Rockpool-x=2; app=3":               "theme=dark; app=3",
		"a=rockpool=1; myrockpool=2; b=; c=\"x y\"; rockpool_device=a; d=1": "a=rockpool=1; myrockpool=2; b=; c=\"x y\"; d=1",
		"theme=dark; app=3":                                                 "theme=dark; app=3",
	} {
		for server, path := range map[int]string{1: "/workspace/mine/", 2: "/workspace/mine/port/3000/"} {
			f.decideOn(f.upstream)
			if res, body := f.do("GET", server, path, "Cookie", sent); res.StatusCode != http.StatusOK {
				t.Fatalf("server %d: %d %s", server, res.StatusCode, body)
			}
			got, some := f.last().Header["Cookie"]
			if some != (want != "") || some && (len(got) != 1 || got[0] != want) {
				t.Errorf("server %d: of %q the workspace was sent %q, want %q", server, sent, got, want)
			}
		}
	}
}

// TestCaddy_Answers: what a workspace must not say to a browser for the other
// workspaces of its origin, and who may show it in a frame.
func TestCaddy_Answers(t *testing.T) {
	f := newFront(t)
	f.app = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Service-Worker-Allowed", "/")
		w.Header().Set("Clear-Site-Data", `"*"`)
		w.Header().Set("Content-Security-Policy", "default-src 'self'; frame-ancestors *")
		w.Header().Set("X-Frame-Options", "ALLOWALL")
		if strings.HasSuffix(r.URL.Path, "/none") {
			w.WriteHeader(http.StatusNotFound)
		}
	})
	for _, tt := range []struct {
		method    string
		server    int
		path      string
		ancestors string
	}{
		{"GET", 1, "/workspace/mine/", "frame-ancestors 'self'"},
		{"POST", 1, "/workspace/mine/x", "frame-ancestors 'self'"},
		{"GET", 2, "/workspace/mine/port/3000/", "frame-ancestors 'self' http://127.0.0.1:* https://127.0.0.1:*"},
		{"GET", 2, "/workspace/mine/port/3000/none", "frame-ancestors 'self' http://127.0.0.1:* https://127.0.0.1:*"},
		{"POST", 2, "/workspace/mine/port/3000/", "frame-ancestors 'self' http://127.0.0.1:* https://127.0.0.1:*"},
	} {
		res, _ := f.do(tt.method, tt.server, tt.path)
		for _, h := range []string{"Service-Worker-Allowed", "Clear-Site-Data"} {
			if got := res.Header.Values(h); got != nil {
				t.Errorf("%s %s on server %d says %s: %q", tt.method, tt.path, tt.server, h, got)
			}
		}
		policies := res.Header.Values("Content-Security-Policy")
		if len(policies) != 2 || policies[0] != "default-src 'self'; frame-ancestors *" && policies[1] != "default-src 'self'; frame-ancestors *" || policies[0] != tt.ancestors && policies[1] != tt.ancestors {
			t.Errorf("%s %s on server %d: policies %q, want its own and %q", tt.method, tt.path, tt.server, policies, tt.ancestors)
		}
		if got := res.Header.Values("X-Frame-Options"); tt.server == 1 && (len(got) != 1 || got[0] != "SAMEORIGIN") {
			t.Errorf("%s %s on server %d: X-Frame-Options %q", tt.method, tt.path, tt.server, got)
		}
	}
}

func TestCaddy_Authentication(t *testing.T) {
	f := newFront(t)
	for _, tt := range []struct {
		server      int
		path, given string
		status      int
	}{
		{0, "/api/health", "", 200},
		{0, "/api/ping", "", 401},
		{0, "/api/health/../ping", "", 401},
		{0, "/app/workspaces", "wrong", 401},
		{0, "/", "", 401},
		{1, "/workspace/mine/", "", 401},
		{1, "/api/health", "", 401},
		{2, "/workspace/mine/port/3000/", "wrong", 401},
		{2, "/workspace/mine/port/3000/", password, 200},
	} {
		given := ""
		if tt.given != "" {
			given = "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+tt.given))
		}

		res, body := f.do("GET", tt.server, tt.path, "Authorization", given)
		if res.StatusCode != tt.status {
			t.Errorf("server %d %s with %q: %d %q, want %d", tt.server, tt.path, tt.given, res.StatusCode, body, tt.status)
		}
		if res.StatusCode != http.StatusUnauthorized {
			continue
		}
		if res.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("server %d %s: nothing says how to authenticate", tt.server, tt.path)
		}
		if body != "who are you?" {
			t.Errorf("server %d %s: 401 with the body %q, not the agent's", tt.server, tt.path, body)
		}
	}

	for _, path := range []string{"/", "/app/workspaces"} { // Caddy's own answer, and the agent's
		res, _ := f.do("GET", 0, path)
		for _, h := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "X-Frame-Options"} {
			if got := res.Header.Values(h); len(got) != 1 || got[0] == "" {
				t.Errorf("the dashboard's %s has %s: %q, want it once", path, h, got)
			}
		}
	}
}

// TestCaddy_PreviewOfVite is an application that was told the path it is
// served from, and refuses every other.
func TestCaddy_PreviewOfVite(t *testing.T) {
	f := newFront(t)
	const base = "/workspace/mine/port/3000/"
	f.app = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, base):
			echo(w, r)
		case r.URL.Path == "/":
			w.Header().Set("Location", base)
			w.WriteHeader(http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	})

	for path, want := range map[string]string{base: "workspace " + base, base + "@vite/client?t=1": "workspace " + base + "@vite/client?t=1", base + "/a%2Fb//": "workspace " + base + "/a%2Fb//"} {
		if res, body := f.do("GET", 2, path); res.StatusCode != http.StatusOK || body != want {
			t.Errorf("%s: %d %q", path, res.StatusCode, body)
		}
	}

	c := f.dial(2, base+"?token=x", "vite-hmr")
	defer c.CloseNow()
	if got := exchange(t, c, "hello"); got != base+" hello" {
		t.Errorf("hot reload: %q", got)
	}
}

// TestCaddy_PreviewOfSimple is one that takes it that it is served from /.
func TestCaddy_PreviewOfSimple(t *testing.T) {
	f := newFront(t)
	f.app = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/old":
			w.Header().Set("Location", "/new")
			w.WriteHeader(http.StatusFound)
		case "/out":
			w.Header().Set("Location", "//example.org/new")
			w.WriteHeader(http.StatusFound)
		case "/home":
			w.Header().Set("Location", "/")
			w.WriteHeader(http.StatusFound)
		case "/", "/socket":
			echo(w, r)
		default:
			http.NotFound(w, r)
		}
	})

	const base = "/workspace/mine/port/3000/"
	if res, body := f.do("GET", 2, base); res.StatusCode != http.StatusOK || body != "workspace /" {
		t.Errorf("root: %d %q", res.StatusCode, body)
	}
	if res, body := f.do("GET", 2, base+"none"); res.StatusCode != http.StatusNotFound {
		t.Errorf("missing: %d %q", res.StatusCode, body)
	}
	for from, to := range map[string]string{"old": base + "new", "home": base, "out": "//example.org/new"} {
		for _, method := range []string{"GET", "POST"} {
			if res, _ := f.do(method, 2, base+from); res.Header.Get("Location") != to {
				t.Errorf("%s %s: redirect to %q, want %q", method, from, res.Header.Get("Location"), to)
			}
		}
	}
	if res, _ := f.do("POST", 2, base+"none"); res.StatusCode != http.StatusNotFound || len(f.reached) == 0 {
		t.Errorf("POST: %d", res.StatusCode)
	}

	c := f.dial(2, base+"socket")
	defer c.CloseNow()
	if got := exchange(t, c, "hello"); got != "/socket hello" {
		t.Errorf("WebSocket: %q", got)
	}
}

// TestCaddy_AgentRestarts: connections that are open stay open, requests
// wait for a moment, and then there is a page.
func TestCaddy_AgentRestarts(t *testing.T) {
	f := newFront(t)
	c := f.dial(1, "/workspace/mine/socket")
	defer c.CloseNow()
	f.stopAgent()
	if got := exchange(t, c, "still"); got != "/socket still" {
		t.Errorf("WebSocket while the agent is down: %q", got)
	}

	answered := make(chan string, 1)
	go func() {
		_, body := f.do("GET", 1, "/workspace/mine/late")
		answered <- body
	}()

	if res, body := f.do("GET", 0, "/api/ping"); res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, `"unavailable"`) {
		t.Errorf("API while the agent is down: %d %q", res.StatusCode, body)
	}
	f.startAgent()
	if got := <-answered; got != "workspace /late" {
		t.Errorf("the request that waited: %q", got)
	}
	if got := exchange(t, c, "open"); got != "/socket open" {
		t.Errorf("WebSocket after the restart: %q", got)
	}

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	f.decideOn(silent.Addr().String())
	_ = silent.Close()
	if res, body := f.do("GET", 1, "/workspace/mine/"); res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "The workspace does not answer") {
		t.Errorf("workspace that does not answer: %d %q", res.StatusCode, body)
	}
	hangingUp(t, f)
	if res, body := f.do("GET", 2, "/workspace/mine/port/3000/"); res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "Nothing answers on this port") {
		t.Errorf("port at which nothing listens: %d %q", res.StatusCode, body)
	}
}

// hangingUp has previews end as the relay ends those of a port at which nothing
// listens.
func hangingUp(t *testing.T, f *front) {
	t.Helper()
	path := f.preview + ".silent"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			_ = c.Close()
		}
	}()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.preview = path
}

func (f *front) dial(server int, path string, protocols ...string) *websocket.Conn {
	f.t.Helper()
	h := http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+password))}}
	c, _, err := websocket.Dial(f.t.Context(), f.url(server, path), &websocket.DialOptions{HTTPHeader: h, Subprotocols: protocols})
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// exchange sends a message over a WebSocket and returns the answer, or the error.
func exchange(t *testing.T, c *websocket.Conn, s string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte(s)); err != nil {
		return err.Error()
	}
	_, b, err := c.Read(ctx)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestReportFailure_Shellcheck(t *testing.T) {
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("shellcheck is not installed: apt install shellcheck")
	}
	out, err := exec.Command(shellcheck, "testdata/golden/usr/local/lib/rockpool/report-failure").CombinedOutput()
	if err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}
