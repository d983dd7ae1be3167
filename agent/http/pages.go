package http

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

//go:embed page.html
var pageFiles embed.FS

var pageTemplate = template.Must(template.ParseFS(pageFiles, "page.html"))

// content is what a page says.
type content struct {
	Title string
	Text  []string
	Back  bool // a link to the dashboard
	// Refresh is after how many seconds the browser asks again; 0 is never.
	Refresh int
}

// enter sends a browser to the dashboard's first page.
func (s *Server) enter(w http.ResponseWriter, r *http.Request) error {
	http.Redirect(w, r, "/app/workspaces", http.StatusFound)
	return nil
}

// dashboard answers below /app/.
func (s *Server) dashboard(w http.ResponseWriter, r *http.Request) error {
	if s.Dashboard == nil {
		s.page(w, r, http.StatusNotFound, pageNotFound())
		return nil
	}
	s.Dashboard.ServeHTTP(w, r)
	return nil
}

var (
	previewPath   = regexp.MustCompile(`^/workspace/([^/]+)/port/([^/]+)(/|$)`)
	workspacePath = regexp.MustCompile(`^/workspace/([^/]+)(/|$)`)
)

// toIDE sends a browser that asked the dashboard's server for a workspace to
// the server for IDEs.
func (s *Server) toIDE(w http.ResponseWriter, r *http.Request) error {
	to := s.address(r, s.Ports.IDE)
	to.Path, to.RawPath, to.RawQuery = r.URL.Path, r.URL.RawPath, r.URL.RawQuery
	http.Redirect(w, r, to.String(), http.StatusFound)
	return nil
}

// noWorkspace answers for an IDE or a preview that is not there.
func (s *Server) noWorkspace(w http.ResponseWriter, r *http.Request) {
	s.page(w, r, http.StatusNotFound, missing(r.URL.Path))
}

func pageNotFound() content {
	return content{Title: "Nothing here", Text: []string{"There is no page at this address."}, Back: true}
}

// page writes a page that stands alone: no script, no other origin.
func (s *Server) page(w http.ResponseWriter, r *http.Request, status int, c content) {
	var b bytes.Buffer
	data := struct {
		content
		Dashboard string
	}{c, s.dashboardURL(r)}
	if err := pageTemplate.Execute(&b, data); err != nil {
		s.fail(w, r, fmt.Errorf("render page: %w", err))
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// dashboardURL is the dashboard's address for the browser that sent r.
func (s *Server) dashboardURL(r *http.Request) string {
	u := s.address(r, s.Ports.Dashboard)
	u.Path = "/app/workspaces"
	return u.String()
}

// address is the root of one of Caddy's servers as the browser that sent r
// sees it: the same host name, that server's port on the host.
func (s *Server) address(r *http.Request, port int) url.URL {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "" {
		host = "127.0.0.1"
	}
	scheme := "http"
	if r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return url.URL{Scheme: scheme, Host: net.JoinHostPort(host, fmt.Sprint(port))}
}
