package http

import (
	"cmp"
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// handler answers one operation, or returns why not.
type handler func(w http.ResponseWriter, r *http.Request) error

// route is an operation and what answers it.
type route struct {
	api.Operation
	handle handler
}

// routes is the whole surface of the dashboard's server. Those of one noun
// stand beside their handlers.
func (s *Server) routes() []route {
	return slices.Concat(
		[]route{
			{api.Health, s.health},
			{api.Ping, acknowledge},
			{api.OpenAPI, openAPI},
			{api.Metrics, s.metrics},
			{api.Events, s.events},
			{api.GetMe, s.me},
			{api.Logout, acknowledge},
			{api.LogoutByLink, acknowledge},
			{api.Login, enter},
		},
		s.workspaceRoutes(), s.imageRoutes(), s.diskRoutes(), s.portRoutes(), s.preferenceRoutes(), s.repositoryRoutes(), s.runtimeRoutes(),
		[]route{
			{page(http.MethodGet, "/{$}"), enter},
			{page(http.MethodGet, "/app"), enter},
			{page(http.MethodGet, "/app/"), s.dashboard},
			{page(http.MethodPost, "/app/"), s.dashboard},
			{page(http.MethodGet, "/workspace/"), s.Gateway.ToIDE},
		},
	)
}

// page is an operation of the pages, which is no part of the API.
func page(method, pattern string) api.Operation {
	return api.Operation{Method: method, Pattern: pattern, AnyQuery: true}
}

// endpoint is a pattern and all that can be asked of it.
type endpoint struct {
	pattern string
	methods map[string]handler
	query   []string // the parameters that one of its operations knows
	any     bool     // it takes parameters that nobody knows
}

// endpoints groups routes by their pattern.
func endpoints(routes []route) []*endpoint {
	var list []*endpoint
	known := map[string]*endpoint{}
	for _, rt := range routes {
		p := known[rt.Pattern]
		if p == nil {
			p = &endpoint{pattern: rt.Pattern, methods: map[string]handler{}}
			known[rt.Pattern] = p
			list = append(list, p)
		}
		p.methods[rt.Method] = rt.handle
		p.query = append(p.query, rt.Query...)
		p.any = p.any || rt.AnyQuery
	}
	return list
}

// allow lists the methods of an endpoint.
func (p *endpoint) allow() string {
	names := slices.Collect(maps.Keys(p.methods))
	if p.methods[http.MethodGet] != nil {
		names = append(names, http.MethodHead)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// register has mux answer what can be asked of an endpoint.
func (s *Server) register(mux *http.ServeMux, p *endpoint) {
	allow := p.allow()
	mux.HandleFunc(p.pattern, func(w http.ResponseWriter, r *http.Request) {
		if rec, ok := w.(*recorder); ok {
			rec.route = p.pattern
		}
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		handle := p.methods[method]
		if handle == nil {
			w.Header().Set("Allow", allow)
			s.fail(w, r, agent.Errorf(agent.CodeMethodNotAllowed, "Method %s is not allowed for %s", r.Method, r.URL.Path))
			return
		}

		var err error
		if !p.any {
			err = checkQuery(r, p.query)
		}
		if err == nil {
			err = handle(w, r)
		}
		if err != nil {
			s.fail(w, r, err)
		}
	})
}

// metrics serves what was counted.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) error {
	s.Metrics.ServeHTTP(w, r)
	return nil
}

// health says OK only while the database answers and jobs are done. It is the
// one route that Caddy lets through without credentials, so it says nothing
// else.
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
	if err := s.Work.Accepting(); err != nil {
		s.Log.Warn("not healthy", "err", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "shutting down")
		return nil
	}
	_, _ = io.WriteString(w, "OK")
	return nil
}

// acknowledge says yes. A logout has nothing to end: the browser keeps basic
// credentials until it is closed.
func acknowledge(w http.ResponseWriter, _ *http.Request) error {
	return api.WriteJSON(w, http.StatusOK, api.Acknowledgement{Status: "ok"})
}

// me tells who was let in.
func (s *Server) me(w http.ResponseWriter, r *http.Request) error {
	name := cmp.Or(r.Header.Get(api.HeaderUser), s.Username)
	return api.WriteJSON(w, http.StatusOK, api.Me{User: api.User{Username: name}})
}

// enter sends a browser to the dashboard's first page. It is also where
// clients begin a login: with basic credentials that is over already.
func enter(w http.ResponseWriter, r *http.Request) error {
	http.Redirect(w, r, "/app/workspaces", http.StatusFound)
	return nil
}

// dashboard answers below /app/.
func (s *Server) dashboard(w http.ResponseWriter, r *http.Request) error {
	if s.Dashboard == nil {
		return s.Gateway.NotFound(w, r)
	}
	s.Dashboard.ServeHTTP(w, r)
	return nil
}
