package gateway_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/gateway"
	"github.com/rockpool/rootvm/guest"
)

var update = flag.Bool("update", false, "rewrite golden files")

// fake has a workspace ws-1, ws-2 … in each of these states.
type fake []agent.Status

func (f fake) WorkspaceByName(_ context.Context, name string) (agent.Workspace, error) {
	for i, status := range f {
		w := agent.Workspace{Name: fmt.Sprintf("ws-%d", i+1), Status: status}
		if status == agent.StatusError {
			w.ErrorMessage = "The image is missing."
		}
		if w.Name == name {
			return w, nil
		}
	}
	return agent.Workspace{}, agent.Errorf(agent.CodeNotFound, "Workspace %q not found", name)
}

func (f fake) Route(ctx context.Context, name string, port int) (agent.Route, error) {
	w, err := f.WorkspaceByName(ctx, name)
	if err != nil {
		return agent.Route{}, err
	}
	if w.Status != agent.StatusRunning {
		return agent.Route{}, agent.Errorf(agent.CodeConflict, "Workspace %q is not running", name)
	}
	return agent.Route{Workspace: name, Upstream: "127.0.0.1:20001", Port: port}, nil
}

// gate is a gateway to the workspaces of f.
func gate(f fake) *gateway.Gateway {
	var c guest.Config
	c.FillDefaults()
	c.Ports.Dashboard, c.Ports.IDE = 9080, 9081
	return &gateway.Gateway{Routes: f, Workspaces: f, Ports: c.Ports}
}

// TestGateway_Decide: what Caddy is told about requests, good and bad.
func TestGateway_Decide(t *testing.T) {
	f := fake{agent.StatusCreating, agent.StatusRunning, agent.StatusStopped, agent.StatusError}
	page, get := []string{"Accept", "text/html,*/*;q=0.8"}, []string{"X-Forwarded-Method", "GET"}
	for name, tt := range map[string]struct {
		server, uri string
		header      []string
		status      int
		upstream    string
		location    string
		text        string
	}{
		"running":                   {"srv1", "/workspace/ws-2/a%2Fb?x=1", nil, 200, "127.0.0.1:20001", "", ""},
		"preview":                   {"srv2", "/workspace/ws-2/port/3000/", nil, 200, "127.0.0.1:20001", "", ""},
		"no slash":                  {"srv1", "/workspace/ws-2?folder=/a", nil, 302, "", "/workspace/ws-2/?folder=/a", ""},
		"unknown":                   {"srv1", "/workspace/none/", page, 404, "", "", "There is no workspace named “none”"},
		"unknown preview":           {"srv2", "/workspace/none/port/1/", page, 404, "", "", "with port 1"},
		"absolute":                  {"srv2", "/_next/static/main.js", append(page, "Referer", "http://localhost:8082/workspace/ws-2/port/3000/"), 404, "", "", "<code>basePath: &#39;/workspace/ws-2/port/3000&#39;</code>"},
		"absolute, from nowhere":    {"srv2", "/main.js", page, 404, "", "", "vite --base /workspace/NAME/port/PORT/"},
		"absolute, from an odd one": {"srv2", "/main.js", append(page, "Referer", "http://x/workspace/\"><script>/port/3000/"), 404, "", "", "vite --base /workspace/NAME/port/PORT/"},
		"absolute, of an IDE":       {"srv1", "/main.js", page, 404, "", "", "There is no page at this address."},
		"absolute, by a program":    {"srv2", "/api/things", []string{"Accept", "application/json", "Referer", "http://localhost:8082/workspace/ws-2/port/3000/"}, 404, "", "", `"code":"not_found"`},
		"unknown, JSON":             {"srv1", "/workspace/none/", []string{"Accept", "application/json"}, 404, "", "", `"code":"not_found"`},
		"stopped":                   {"srv1", "/workspace/ws-3/", page, 503, "", "", "Its state is: stopped."},
		"stopped, JSON":             {"srv1", "/workspace/ws-3/", []string{"Accept", "*/*"}, 503, "", "", `"code":"unavailable"`},
		"creating":                  {"srv1", "/workspace/ws-1/", page, 503, "", "", `http-equiv="refresh"`},
		"error":                     {"srv1", "/workspace/ws-4/", page, 503, "", "", "The image is missing."},
		"markup":                    {"srv1", "/workspace/%3Cscript%3E/", page, 404, "", "", "&lt;script&gt;"},
		"dots":                      {"srv1", "/workspace/ws-2/../ws-3/", page, 404, "", "", ""},
		"encoded dots":              {"srv1", "/workspace/ws-2/%2e%2E/x", page, 404, "", "", ""},
		"backslash":                 {"srv1", `/workspace/ws-2/..\x`, page, 404, "", "", ""},
		"no address":                {"srv1", "", page, 404, "", "", ""},
		"not an address":            {"srv1", "workspace", page, 404, "", "", ""},
		"another's address":         {"srv1", "http://evil.example/workspace/ws-2/", page, 404, "", "", ""},
		"foreign POST":              {"srv1", "/workspace/ws-2/", []string{"X-Forwarded-Method", "POST", "Origin", "http://box.local:9080", "Accept", "*/*"}, 403, "", "", "forbidden"},
		"foreign, modern":           {"srv2", "/workspace/ws-2/", []string{"X-Forwarded-Method", "DELETE", "Sec-Fetch-Site", "cross-site"}, 403, "", "", "Refused"},
		"own POST":                  {"srv1", "/workspace/ws-2/", []string{"X-Forwarded-Method", "POST", "Origin", "http://box.local:9081", "Sec-Fetch-Site", "same-origin"}, 200, "127.0.0.1:20001", "", ""},
		"foreign WebSocket":         {"srv1", "/workspace/ws-2/", []string{"X-Forwarded-Method", "GET", "Sec-WebSocket-Key", "x", "Origin", "http://evil.example"}, 403, "", "", "Refused"},
		"own WebSocket":             {"srv1", "/workspace/ws-2/", []string{"X-Forwarded-Method", "GET", "Sec-WebSocket-Key", "x", "Origin", "http://box.local:9081", "Sec-Fetch-Site", "cross-site"}, 200, "127.0.0.1:20001", "", ""},
		"WebSocket, no Origin":      {"srv1", "/workspace/ws-2/", []string{"Sec-WebSocket-Key", "x"}, 200, "127.0.0.1:20001", "", ""},
		"editor's proxy":            {"srv1", "/workspace/ws-2/proxy/3000/a%20b?c=d", get, 302, "", "http://box.local:8082/workspace/ws-2/port/3000/a%20b?c=d", ""},
		"editor's proxy, slashes":   {"srv1", "/workspace/ws-2/proxy/3000//a%2Fb//", get, 302, "", "http://box.local:8082/workspace/ws-2/port/3000//a%2Fb//", ""},
		"preview, slashes":          {"srv2", "/workspace/ws-2/port/3000//a%2Fb//", nil, 200, "127.0.0.1:20001", "", ""},
		"preview, odd character":    {"srv2", "/workspace/ws-2/port/3000//a%2Fb|c?x=|", nil, 307, "", "/workspace/ws-2/port/3000//a%2Fb%7Cc?x=|", ""},
		"preview, odd alone":        {"srv2", "/workspace/ws-2/port/3000/a|c", nil, 200, "127.0.0.1:20001", "", ""},
		"preview, odd WebSocket":    {"srv2", "/workspace/ws-2/port/3000/a%2Fb|c", []string{"Sec-WebSocket-Key", "x"}, 200, "127.0.0.1:20001", "", ""},
		"preview, all characters":   {"srv2", "/workspace/ws-2/port/3000/%2F-._~!$&'()*+,;=:@[]", nil, 200, "127.0.0.1:20001", "", ""},
		"editor's proxy, whole":     {"srv1", "/workspace/ws-2/absproxy/3000", get, 302, "", "http://box.local:8082/workspace/ws-2/port/3000/", ""},
		"editor's proxy, disguised": {"srv1", "/workspace/ws-2//Pr%6Fxy/3000/", get, 302, "", "http://box.local:8082/workspace/ws-2/port/3000/", ""},
		"editor's proxy, elsewhere": {"srv1", "/workspace/ws-2/proxy/3000@evil.example/", get, 404, "", "", ""},
		"editor's proxy, POST":      {"srv1", "/workspace/ws-2/proxy/3000/", []string{"X-Forwarded-Method", "POST"}, 404, "", "", ""},
		"editor's proxy, WebSocket": {"srv1", "/workspace/ws-2/proxy/3000/", append([]string{"Sec-WebSocket-Key", "x"}, get...), 404, "", "", ""},
		"a directory named so":      {"srv1", "/workspace/ws-2/proxying/3000/", get, 200, "127.0.0.1:20001", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "http://box.local:9081/internal/route", nil)
			r.Header.Set("X-Rockpool-Server", tt.server)
			r.Header.Set("X-Rockpool-Upstream", "127.0.0.1:22") // a client's own wish
			r.Header.Set("X-Forwarded-Uri", tt.uri)
			for i := 0; i < len(tt.header); i += 2 {
				r.Header.Set(tt.header[i], tt.header[i+1])
			}
			w := httptest.NewRecorder()
			if err := gate(f).Decide(w, r); err != nil {
				t.Fatal(err)
			}
			if w.Code != tt.status || w.Header().Get("X-Rockpool-Upstream") != tt.upstream || w.Header().Get("Location") != tt.location || !strings.Contains(w.Body.String(), tt.text) {
				t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
			}
			if tt.status >= 400 && strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") && !strings.Contains(w.Body.String(), `href="http://box.local:9080/app/workspaces"`) {
				t.Errorf("no way back: %s", w.Body)
			}
		})
	}
}

// broken fails with what nobody may be told.
type broken struct{ fake }

var errSecret = errors.New("disk I/O error: secret")

func (broken) Route(context.Context, string, int) (agent.Route, error) {
	return agent.Route{}, errSecret
}

// TestGateway_Decide/fault: a fault of the agent's own is returned, and nothing
// is answered.
func TestGateway_Decide_fault(t *testing.T) {
	g := gate(nil)
	g.Routes = broken{}
	r := httptest.NewRequest("GET", "/internal/route", nil)
	r.Header.Set("X-Rockpool-Server", "srv1")
	r.Header.Set("X-Forwarded-Uri", "/workspace/abc/")
	w := httptest.NewRecorder()
	if err := g.Decide(w, r); !errors.Is(err, errSecret) || w.Body.Len() > 0 {
		t.Errorf("%v, %s", err, w.Body)
	}
}

// TestGateway_pages compares whole pages with golden files.
func TestGateway_pages(t *testing.T) {
	for name, tt := range map[string]struct{ target, server string }{
		"no-workspace": {"/workspace/%3Cscript%3E/", "srv1"},
		"no-preview":   {"/workspace/mine/port/3000/x", "srv2"},
		"not-found":    {"/favicon.ico", "srv0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "http://box.local:9080"+tt.target, nil)
			w := httptest.NewRecorder()
			answer := gate(nil).NoWorkspace
			if tt.server == "srv0" {
				answer = gate(nil).NotFound
			}
			if err := answer(w, r); err != nil {
				t.Fatal(err)
			}
			got := w.Body.String()
			if strings.Contains(got, "<script") || !strings.Contains(w.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'") {
				t.Error("the page is not safe")
			}
			golden := filepath.Join("testdata", name+".html")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || got != string(want) {
				t.Errorf("differs from %s (%v):\n%s", golden, err, got)
			}
		})
	}
}
