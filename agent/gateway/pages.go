package gateway

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
	Title   string
	Text    []string
	Options []option
	Preview string // path of the preview that the browser came from
	Back    bool   // a link to the dashboard
	// Refresh is after how many seconds the browser asks again; 0 is never.
	Refresh int
}

// option is how a tool is told the path it is served from.
type option struct{ Tool, Setting string }

var (
	previewPath   = regexp.MustCompile(`^/workspace/([^/]+)/port/([^/]+)(/|$)`)
	workspacePath = regexp.MustCompile(`^/workspace/([^/]+)(/|$)`)
)

// ToIDE sends a browser that asked the dashboard's server for a workspace to
// the server for IDEs.
func (g *Gateway) ToIDE(w http.ResponseWriter, r *http.Request) error {
	to := g.address(r, g.Ports.IDE)
	to.Path, to.RawPath, to.RawQuery = r.URL.Path, r.URL.RawPath, r.URL.RawQuery
	http.Redirect(w, r, to.String(), http.StatusFound)
	return nil
}

// NoWorkspace answers for an IDE or a preview that is not there. An error is a
// fault of the page's; then nothing was written.
func (g *Gateway) NoWorkspace(w http.ResponseWriter, r *http.Request) error {
	return g.page(w, r, http.StatusNotFound, missing(r.URL.Path))
}

// NotFound answers for a page that is not there, as NoWorkspace does.
func (g *Gateway) NotFound(w http.ResponseWriter, r *http.Request) error {
	return g.page(w, r, http.StatusNotFound, pageNotFound())
}

func pageNotFound() content {
	return content{Title: "Nothing here", Text: []string{"There is no page at this address."}, Back: true}
}

// page writes a page that stands alone: no script, no other origin.
func (g *Gateway) page(w http.ResponseWriter, r *http.Request, status int, c content) error {
	var b bytes.Buffer
	data := struct {
		content
		Dashboard string
	}{c, g.dashboardURL(r)}
	if err := pageTemplate.Execute(&b, data); err != nil {
		return fmt.Errorf("render page: %w", err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
	return nil
}

// dashboardURL is the dashboard's address for the browser that sent r.
func (g *Gateway) dashboardURL(r *http.Request) string {
	u := g.address(r, g.Ports.Dashboard)
	u.Path = "/app/workspaces"
	return u.String()
}

// address is the root of one of Caddy's servers as the browser that sent r
// sees it: the same host name, that server's port on the host.
func (g *Gateway) address(r *http.Request, port int) url.URL {
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
