package http_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/gateway"
	"github.com/rockpool/rootvm/agent/http"
	"github.com/rockpool/rootvm/guest"
)

type fakeDB struct{ err error }

func (f fakeDB) Ping(context.Context) error { return f.err }

// fakeWork accepts jobs, or says why not.
type fakeWork struct{ err error }

func (f fakeWork) Accepting() error { return f.err }

func server(db http.Database) *http.Server {
	f := newFake()
	return &http.Server{
		Database: db, Work: fakeWork{}, ControlPlane: f, Gateway: gateOf(f), Runtime: &fakeRuntime{}, Repositories: fakeRepositories{}, Metrics: noMetrics{},
		Dashboard: nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, "dashboard "+r.URL.Path)
		}),
		Login: openDoor{}, Username: "admin", Version: "1.2", Log: slog.New(slog.DiscardHandler),
	}
}

// openDoor lets in whoever names a user, and who is noted already.
type openDoor struct{}

func (openDoor) Enter(w nethttp.ResponseWriter, r *nethttp.Request) (string, error) {
	name, password, _ := r.BasicAuth()
	r.Header.Del("Authorization")
	switch password {
	case "wrong":
		w.Header().Set("WWW-Authenticate", "Basic")
		return "", agent.Errorf(agent.CodeUnauthorized, "A user name and a password are needed")
	case "again":
		w.Header().Set("Retry-After", "7")
		return "", agent.Errorf(agent.CodeTooMany, "Too many wrong passwords")
	}
	return cmp.Or(name, "someone"), nil
}

// TestServer_letIn: what came through Caddy needs credentials, on each of its
// servers and for every path but health.
func TestServer_letIn(t *testing.T) {
	for name, tt := range map[string]struct {
		target, server, password string
		status                   int
		body                     string
	}{
		"API":                {"/api/auth/me", "srv0", "right", 200, `{"user":{"id":0,"username":"me"}}`},
		"API, wrong":         {"/api/auth/me", "srv0", "wrong", 401, `{"error":{"code":"unauthorized","message":"A user name and a password are needed"},"message":"A user name and a password are needed","status":401}`},
		"API, too many":      {"/api/auth/me", "srv0", "again", 429, `{"error":{"code":"too_many_requests","message":"Too many wrong passwords"},"message":"Too many wrong passwords","status":429}`},
		"odd path, wrong":    {"/api/health/../ping", "srv0", "wrong", 401, `{"error":{"code":"unauthorized","message":"A user name and a password are needed"},"message":"A user name and a password are needed","status":401}`},
		"encoded health":     {"/api%2Fhealth", "srv0", "wrong", 401, `{"error":{"code":"unauthorized","message":"A user name and a password are needed"},"message":"A user name and a password are needed","status":401}`},
		"health":             {"/api/health", "srv0", "wrong", 200, "OK"},
		"health of the IDEs": {"/api/health", "srv1", "wrong", 401, ""},
		"page, wrong":        {"/app/workspaces", "srv0", "wrong", 401, ""},
		"page, too many":     {"/app/workspaces", "srv0", "again", 429, "Too many wrong passwords\n"},
		"decision, wrong":    {"/internal/route", "srv1", "wrong", 401, ""},
		"preview, too many":  {"/internal/route", "srv2", "again", 429, "Too many wrong passwords\n"},
		"by the socket":      {"/api/ping", "", "wrong", 200, `{"status":"ok"}`},
	} {
		t.Run(name, func(t *testing.T) {
			credentials := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+tt.password))
			header := []string{"Authorization", credentials}
			if tt.server != "" {
				header = append(header, "X-Rockpool-Server", tt.server)
			}
			res := do(t, fakeDB{}, "GET", tt.target, header...)
			if got := body(t, res); res.StatusCode != tt.status || got != tt.body {
				t.Errorf("%d %q, want %d %q", res.StatusCode, got, tt.status, tt.body)
			}
			if tt.status == 429 && res.Header.Get("Retry-After") != "7" || tt.status == 401 && res.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("headers %v", res.Header)
			}
		})
	}
}

// gateOf is a gateway to the workspaces of f.
func gateOf(f *fake) *gateway.Gateway {
	var c guest.Config
	c.FillDefaults()
	c.Ports.Dashboard, c.Ports.IDE = 9080, 9081
	return &gateway.Gateway{Routes: f, Workspaces: f, Ports: c.Ports}
}

func do(t *testing.T, db http.Database, method, target string, header ...string) *nethttp.Response {
	t.Helper()
	r := httptest.NewRequest(method, "http://box.local:9080/", nil)
	u, err := url.ParseRequestURI(target) // as a server reads it
	if err != nil {
		t.Fatal(err)
	}
	r.URL = u
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	server(db).Handler().ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *nethttp.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const jsonType = "application/json; charset=utf-8"

// TestServer_routes drives every route, good and bad.
func TestServer_routes(t *testing.T) {
	for name, tt := range map[string]struct {
		method, target string
		header         []string
		status         int
		kind           string
		body           string // exact
	}{
		"health":              {"GET", "/api/health", nil, 200, "text/plain; charset=utf-8", "OK"},
		"health, busting":     {"GET", "/api/health?t=1", nil, 200, "text/plain; charset=utf-8", "OK"},
		"ping":                {"GET", "/api/ping", nil, 200, jsonType, `{"status":"ok"}`},
		"me":                  {"GET", "/api/auth/me", []string{"X-Rockpool-User", "eve"}, 200, jsonType, `{"user":{"id":0,"username":"eve"}}`},
		"me, past Caddy":      {"GET", "/api/auth/me", nil, 200, jsonType, `{"user":{"id":0,"username":"admin"}}`},
		"logout":              {"POST", "/api/auth/logout", nil, 200, jsonType, `{"status":"ok"}`},
		"logout by link":      {"GET", "/api/auth/logout", nil, 200, jsonType, `{"status":"ok"}`},
		"unknown parameter":   {"GET", "/api/ping?b=1&a=2", nil, 400, jsonType, `{"error":{"code":"validation_error","message":"Unknown query parameter \"a\"","fields":[{"path":"a","message":"is not a parameter of this route"},{"path":"b","message":"is not a parameter of this route"}]},"message":"Unknown query parameter \"a\"","status":400}`},
		"bad query":           {"GET", "/api/ping?%zz", nil, 400, jsonType, `{"error":{"code":"validation_error","message":"The query of the address does not decode"},"message":"The query of the address does not decode","status":400}`},
		"no route":            {"GET", "/api/nope", nil, 404, jsonType, `{"error":{"code":"not_found","message":"Route GET /api/nope not found"},"message":"Route GET /api/nope not found","status":404}`},
		"api itself":          {"GET", "/api", nil, 404, jsonType, `{"error":{"code":"not_found","message":"Route GET /api not found"},"message":"Route GET /api not found","status":404}`},
		"method":              {"DELETE", "/api/ping", nil, 405, jsonType, `{"error":{"code":"method_not_allowed","message":"Method DELETE is not allowed for /api/ping"},"message":"Method DELETE is not allowed for /api/ping","status":405}`},
		"cross origin":        {"POST", "/api/auth/logout", []string{"Origin", "http://evil.example"}, 403, jsonType, `{"error":{"code":"forbidden","message":"Requests from other sites are refused"},"message":"Requests from other sites are refused","status":403}`},
		"cross site":          {"POST", "/api/auth/logout", []string{"Sec-Fetch-Site", "cross-site"}, 403, jsonType, `{"error":{"code":"forbidden","message":"Requests from other sites are refused"},"message":"Requests from other sites are refused","status":403}`},
		"other port":          {"POST", "/api/auth/logout", []string{"Origin", "http://box.local:9081", "Sec-Fetch-Site", "same-site"}, 403, jsonType, `{"error":{"code":"forbidden","message":"Requests from other sites are refused"},"message":"Requests from other sites are refused","status":403}`},
		"same origin":         {"POST", "/api/auth/logout", []string{"Origin", "http://box.local:9080", "Sec-Fetch-Site", "same-origin"}, 200, jsonType, `{"status":"ok"}`},
		"dots":                {"GET", "/api/x/../ping", nil, 404, jsonType, `{"error":{"code":"not_found","message":"Route GET /api/x/../ping not found"},"message":"Route GET /api/x/../ping not found","status":404}`},
		"encoded dots":        {"GET", "/app/%2e%2e/api/ping", nil, 404, "text/html; charset=utf-8", ""},
		"encoded slash":       {"GET", "/app%2Fworkspaces", nil, 404, "text/html; charset=utf-8", ""},
		"double slash":        {"GET", "//api/ping", nil, 404, "text/html; charset=utf-8", ""},
		"dashboard":           {"GET", "/app/workspaces/x", nil, 200, "text/html; charset=utf-8", "dashboard /app/workspaces/x"},
		"no page":             {"GET", "/none", nil, 404, "text/html; charset=utf-8", ""},
		"route from outside":  {"GET", "/internal/route", []string{"X-Rockpool-Server", "srv0", "X-Forwarded-Uri", "/workspace/a/"}, 404, "text/html; charset=utf-8", ""},
		"route from inside":   {"GET", "/internal/route", []string{"X-Forwarded-Uri", "/workspace/a/"}, 404, "text/html; charset=utf-8", ""},
		"API of the IDE":      {"GET", "/api/ping", []string{"X-Rockpool-Server", "srv1"}, 404, "text/html; charset=utf-8", ""},
		"API of previews":     {"POST", "/api/auth/logout", []string{"X-Rockpool-Server", "srv2"}, 404, "text/html; charset=utf-8", ""},
		"dashboard elsewhere": {"GET", "/app/workspaces", []string{"X-Rockpool-Server", "srv1"}, 404, "text/html; charset=utf-8", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := do(t, fakeDB{}, tt.method, tt.target, tt.header...)
			got := body(t, r)
			if r.StatusCode != tt.status || r.Header.Get("Content-Type") != tt.kind || tt.body != "" && got != tt.body {
				t.Errorf("%d %s\n%s\nwant %d %s\n%s", r.StatusCode, r.Header.Get("Content-Type"), got, tt.status, tt.kind, tt.body)
			}
			if r.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Error("sniffing is allowed")
			}
		})
	}
}

func TestServer_redirects(t *testing.T) {
	for target, want := range map[string]string{
		"/api/auth/github":            "/app/workspaces",
		"/app":                        "/app/workspaces",
		"/workspace/x/a?folder=/a%20": "http://box.local:9081/workspace/x/a?folder=/a%20",
	} {
		r := do(t, fakeDB{}, "GET", target)
		if r.StatusCode != nethttp.StatusFound || r.Header.Get("Location") != want {
			t.Errorf("%s: %d %q, want %q", target, r.StatusCode, r.Header.Get("Location"), want)
		}
	}
	r := do(t, fakeDB{}, "DELETE", "/api/auth/logout")
	if got := r.Header.Get("Allow"); got != "GET, HEAD, POST" {
		t.Errorf("Allow: %q", got)
	}
}

func TestServer_health_databaseGone(t *testing.T) {
	r := do(t, fakeDB{errors.New("disk I/O error: secret")}, "GET", "/api/health")
	if got := body(t, r); r.StatusCode != nethttp.StatusServiceUnavailable || strings.Contains(got, "secret") || strings.Contains(got, "OK") {
		t.Errorf("%d %q", r.StatusCode, got)
	}
}

func TestServer_health_shutDown(t *testing.T) {
	s := server(fakeDB{})
	s.Work = fakeWork{agent.Errorf(agent.CodeUnavailable, "The VM was asked to shut down.")}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://box.local:9080/api/health", nil))
	if got := w.Body.String(); w.Code != nethttp.StatusServiceUnavailable || got != "shutting down" {
		t.Errorf("%d %q", w.Code, got)
	}
}

type panicDB struct{}

func (panicDB) Ping(context.Context) error { panic("secret") }

func TestServer_panic(t *testing.T) {
	r := do(t, panicDB{}, "GET", "/api/health")
	var e struct {
		Error  struct{ Code, Message string }
		Status int
	}
	got := body(t, r)
	if err := json.Unmarshal([]byte(got), &e); err != nil || e.Status != 500 || e.Error.Code != agent.CodeInternal || strings.Contains(got, "secret") {
		t.Errorf("%d %q %v", r.StatusCode, got, err)
	}
}

func FuzzServer(f *testing.F) {
	f.Add("/api/ping", "a=1", "srv0")
	f.Add("/workspace/a/port/1/", "", "srv2")
	f.Add("/app/..%2f", "%zz", "")
	h := server(fakeDB{}).Handler()
	f.Fuzz(func(t *testing.T, path, query, name string) {
		r := httptest.NewRequest("GET", "http://box/", nil)
		r.URL.Path, r.URL.RawQuery = path, query
		r.Header.Set("X-Rockpool-Server", name)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%q: %d", path, w.Code)
		}
		if name != "" && name != "srv0" && !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			t.Errorf("%q on %q is not a page", path, name)
		}
	})
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.sock")
	l, err := http.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, err := http.Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "another process serves this socket") {
		t.Errorf("live socket: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as kill -9 leaves it
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = http.Listen(t.Context(), path)
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	_ = l.Close()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := http.Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file: %v", err)
	}
	if _, err := http.Listen(t.Context(), filepath.Join(dir, "none/a.sock")); err == nil || !strings.Contains(err.Error(), "directory must exist") {
		t.Errorf("no directory: %v", err)
	}
}

// blockDB holds a health request until it is let go.
type blockDB struct {
	entered atomic.Bool
	in, out chan struct{}
}

func (b *blockDB) Ping(context.Context) error {
	if b.entered.CompareAndSwap(false, true) {
		close(b.in)
	}
	<-b.out
	return nil
}

func TestServer_Serve(t *testing.T) {
	for name, finish := range map[string]bool{"request finishes": true, "request hangs": false} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.sock")
			l, err := http.Listen(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			db := &blockDB{in: make(chan struct{}), out: make(chan struct{})}
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			drain := 10 * time.Second
			if !finish {
				drain = 50 * time.Millisecond
			}
			go func() { served <- server(db).Serve(ctx, l, drain) }()
			client := &nethttp.Client{Transport: &nethttp.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", path)
			}}}
			answered := make(chan bool, 1)
			go func() {
				r, err := client.Get("http://agent/api/health")
				if err == nil {
					_ = r.Body.Close()
				}
				answered <- err == nil
			}()
			<-db.in
			cancel()
			if finish {
				close(db.out)
			}
			if got := <-answered; got != finish {
				t.Errorf("answered: %v, want %v", got, finish)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
			if !finish {
				close(db.out)
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("socket is left: %v", err)
			}
		})
	}
}
