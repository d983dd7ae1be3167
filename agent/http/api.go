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

// api registers the JSON routes.
func (s *Server) api(mux *http.ServeMux) {
	s.route(mux, "/api/health", nil, methods{http.MethodGet: s.health})
	s.route(mux, "/api/ping", []string{}, methods{http.MethodGet: s.ping})
	s.route(mux, "/api/auth/me", []string{}, methods{http.MethodGet: s.me})
	s.route(mux, "/api/auth/logout", []string{}, methods{http.MethodGet: s.logout, http.MethodPost: s.logout})
	s.route(mux, "/api/auth/github", nil, methods{http.MethodGet: s.github})
	mux.HandleFunc("/", s.notFound)
}

// route registers a path. query lists the parameters the route knows: others
// are a fault, unless query is nil.
func (s *Server) route(mux *http.ServeMux, pattern string, query []string, m methods) {
	allow := make([]string, 0, len(m)+1)
	for name := range m {
		allow = append(allow, name)
	}
	if m[http.MethodGet] != nil {
		allow = append(allow, http.MethodHead)
	}
	slices.Sort(allow)
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		h := m[method]
		if h == nil {
			w.Header().Set("Allow", strings.Join(allow, ", "))
			s.fail(w, r, agent.Errorf(agent.CodeMethodNotAllowed, "Method %s is not allowed for %s", r.Method, r.URL.Path))
			return
		}
		if err := checkQuery(r, query); err != nil {
			s.fail(w, r, err)
			return
		}
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// checkQuery refuses parameters that are not in known, and a query that does
// not decode.
func checkQuery(r *http.Request, known []string) error {
	if known == nil || r.URL.RawQuery == "" {
		return nil
	}
	values, err := parseQuery(r)
	if err != nil {
		return err
	}
	var fields []agent.Field
	for name := range values {
		if !slices.Contains(known, name) {
			fields = append(fields, agent.Field{Path: name, Message: "is not a parameter of this route"})
		}
	}
	if fields == nil {
		return nil
	}
	slices.SortFunc(fields, func(a, b agent.Field) int { return strings.Compare(a.Path, b.Path) })
	e := agent.Errorf(agent.CodeValidation, "Unknown query parameter %q", fields[0].Path)
	e.Fields = fields
	return e
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
