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
}

// pages registers what people see. On Caddy's servers for the IDE and for
// previews every request that finds no workspace ends here.
func (s *Server) pages(mux *http.ServeMux) {
	s.route(mux, "/app/workspaces", nil, methods{http.MethodGet: s.landing})
	s.route(mux, "/workspace/", nil, methods{http.MethodGet: s.toIDE})
}

// landing stands where the dashboard will be.
func (s *Server) landing(w http.ResponseWriter, r *http.Request) error {
	s.page(w, r, http.StatusOK, content{
		Title: "Workspaces",
		Text: []string{
			"This Root VM is up and answers. Creating workspaces from this page is not part of this release yet.",
			"Agent " + s.Version + ".",
		},
	})
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
	c := pageNotFound()
	if m := previewPath.FindStringSubmatch(r.URL.Path); m != nil {
		c.Title = "No such preview"
		c.Text = []string{fmt.Sprintf("There is no workspace named “%s” with port %s.", m[1], m[2])}
	} else if m := workspacePath.FindStringSubmatch(r.URL.Path); m != nil {
		c.Title = "No such workspace"
		c.Text = []string{fmt.Sprintf("There is no workspace named “%s”.", m[1])}
	}
	s.page(w, r, http.StatusNotFound, c)
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
func (s *Server) address(r *http.Request, port uint16) url.URL {
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
