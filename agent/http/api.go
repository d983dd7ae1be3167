package http

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

// handler answers one method of one route, or returns why not.
type handler func(w http.ResponseWriter, r *http.Request) error

// methods are the handlers of one route by method.
type methods map[string]handler

// route is one path and what can be asked of it.
type route struct {
	pattern string
	query   []string // the parameters it knows: others are a fault; nil: it takes any
	methods methods
}

// none is for routes without parameters.
var none = []string{}

// routes is the whole surface of the dashboard's server.
func (s *Server) routes() []route {
	get := func(h handler) methods { return methods{http.MethodGet: h} }
	post := func(h handler) methods { return methods{http.MethodPost: h} }
	put := func(h handler) methods { return methods{http.MethodPut: h} }
	return []route{
		{"/api/health", nil, get(s.health)},
		{"/api/ping", none, get(s.ping)},
		{"/api/openapi.json", none, get(s.openAPI)},
		{"/api/metrics", none, get(s.metrics)},
		{"/api/events", none, get(s.events)},
		{"/api/auth/me", none, get(s.me)},
		{"/api/auth/logout", none, methods{http.MethodGet: s.logout, http.MethodPost: s.logout}},
		{"/api/auth/github", nil, get(s.github)},

		{"/api/workspaces", []string{"limit", "cursor"}, methods{http.MethodGet: s.listWorkspaces, http.MethodPost: s.createWorkspace}},
		{"/api/workspaces/{id}", none, methods{http.MethodGet: s.workspace, http.MethodDelete: s.deleteWorkspace}},
		{"/api/workspaces/{id}/start", none, post(s.startWorkspace)},
		{"/api/workspaces/{id}/stop", none, post(s.stopWorkspace)},
		{"/api/workspaces/{id}/steps", none, get(s.steps)},
		{"/api/workspaces/{id}/usage", none, get(s.usage)},
		{"/api/workspaces/{id}/logs", []string{"follow", "tail", "source"}, get(s.logs)},
		{"/api/workspaces/{id}/ports", none, methods{http.MethodGet: s.listPorts, http.MethodPost: s.addPort}},
		{"/api/workspaces/{id}/ports/{port}", none, methods{http.MethodDelete: s.removePort}},

		{"/api/settings", none, get(s.listSettings)},
		{"/api/settings/{name}", []string{"workspaceId"}, methods{http.MethodGet: s.setting, http.MethodPut: s.saveSetting}},

		{"/api/github/repos", []string{"sort", "page", "per_page"}, get(s.listRepositories)},
		{"/api/github/repos/search", []string{"q", "page", "per_page"}, get(s.searchRepositories)},

		{"/api/runtime/{id}/create", none, post(s.runtimeCreate)},
		{"/api/runtime/{id}/start", none, post(s.runtimeStart)},
		{"/api/runtime/{id}/stop", none, post(s.runtimeStop)},
		{"/api/runtime/{id}/remove", none, post(s.runtimeRemove)},
		{"/api/runtime/{id}/status", none, get(s.runtimeStatus)},
		{"/api/runtime/{id}/address", none, get(s.runtimeAddress)},
		{"/api/runtime/{id}/configure", none, post(s.runtimeConfigure)},
		{"/api/runtime/{id}/clone", none, post(s.runtimeClone)},
		{"/api/runtime/{id}/readFile", []string{"path"}, get(s.runtimeReadFile)},
		{"/api/runtime/{id}/writeFile", []string{"path"}, put(s.runtimeWriteFile)},

		{"/app", nil, get(s.enter)},
		{"/app/", nil, methods{http.MethodGet: s.dashboard, http.MethodPost: s.dashboard}},
		{"/workspace/", nil, get(s.toIDE)},
	}
}

// route registers a route.
func (s *Server) route(mux *http.ServeMux, rt route) {
	allow := make([]string, 0, len(rt.methods)+1)
	for name := range rt.methods {
		allow = append(allow, name)
	}
	if rt.methods[http.MethodGet] != nil {
		allow = append(allow, http.MethodHead)
	}
	slices.Sort(allow)
	mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) {
		if rec, ok := w.(*recorder); ok {
			rec.route = rt.pattern
		}
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		h := rt.methods[method]
		if h == nil {
			w.Header().Set("Allow", strings.Join(allow, ", "))
			s.fail(w, r, agent.Errorf(agent.CodeMethodNotAllowed, "Method %s is not allowed for %s", r.Method, r.URL.Path))
			return
		}
		if err := checkQuery(r, rt.query); err != nil {
			s.fail(w, r, err)
			return
		}
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// metrics serves what was counted.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) error {
	s.Metrics.ServeHTTP(w, r)
	return nil
}

// health says OK only while the database answers. It is the one route that
// Caddy lets through without credentials, so it says nothing else.
func (s *Server) health(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err := s.Database.Ping(ctx); err != nil {
		s.Log.Error("not healthy", "err", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "database does not answer")
		return nil
	}
	_, _ = io.WriteString(w, "OK")
	return nil
}

func (s *Server) ping(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = io.WriteString(w, `{"status":"ok"}`)
	return nil
}

type user struct {
	ID       int    `json:"id"`
	Username string `json:"username"`
}

// me tells whom Caddy let in. There is one user, and its id is 0.
func (s *Server) me(w http.ResponseWriter, r *http.Request) error {
	name := r.Header.Get(userHeader)
	if name == "" {
		name = s.Username
	}
	s.json(w, http.StatusOK, map[string]user{"user": {Username: name}})
	return nil
}

// logout has nothing to end: the browser keeps basic credentials until it is
// closed.
func (s *Server) logout(w http.ResponseWriter, _ *http.Request) error {
	s.json(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// github is where clients begin a login; with basic credentials that is over
// already.
func (s *Server) github(w http.ResponseWriter, r *http.Request) error {
	http.Redirect(w, r, "/app/workspaces", http.StatusFound)
	return nil
}
