// Package dashboard is what a person sees of Rockpool: pages rendered on the
// server below /app/, a style sheet, one small script and two drawings.
//
// Every page works without the script, as links and forms. With it, a page
// follows what happens: each page is cut into regions, and a stream of
// server-sent events carries the regions whose HTML changed. The first thing
// on a stream is the page as it is now, so a page that was away, or an agent
// that was restarted, needs no memory of what was sent before.
//
// The package keeps no state and imports only the domain and guest. Requests
// must have passed package http, which holds the credentials' name, the origin check and
// the limits.
package dashboard

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/guest"
)

// Dashboard has what the pages need. All fields but Closing must be set.
type Dashboard struct {
	ControlPlane agent.ControlPlane
	Ports        guest.Ports // on the host, to build addresses a browser can use
	Version      string
	Now          func() time.Time
	Closing      <-chan struct{} // closed when the agent ends: streams end then; nil is never
	Log          *slog.Logger
}

// policy lets a page use what this package serves and nothing else, neither
// inline nor of another host.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

const listPath = "/app/workspaces"

// page answers one request, or returns why not.
type page func(w http.ResponseWriter, r *http.Request) error

// Handler returns the pages, for paths that begin with /app.
func (d *Dashboard) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, p page) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := p(w, r); err != nil {
				d.fail(w, r, err)
			}
		})
	}

	toList := func(w http.ResponseWriter, r *http.Request) error {
		http.Redirect(w, r, listPath, http.StatusFound)
		return nil
	}
	handle("GET /app", toList)
	handle("GET /app/{$}", toList)
	handle("GET /app/assets/{file}", d.asset)
	handle("GET /app/workspaces", d.list)
	handle("GET /app/workspaces/live", d.listLive)
	handle("GET /app/workspaces/new", d.chooseSource)
	handle("GET /app/workspaces/new/repo", d.chooseRepository)
	handle("GET /app/workspaces/new/configure", d.configure)
	handle("POST /app/workspaces/new/configure", d.create)
	handle("GET /app/workspaces/{id}", d.detail)
	handle("GET /app/workspaces/{id}/live", d.detailLive)
	handle("GET /app/workspaces/{id}/log", d.log)
	handle("POST /app/workspaces/{id}/start", d.start)
	handle("POST /app/workspaces/{id}/stop", d.stop)
	handle("POST /app/workspaces/{id}/delete", d.delete)
	handle("POST /app/workspaces/{id}/ports", d.addPort)
	handle("POST /app/workspaces/{id}/ports/{port}/remove", d.removePort)
	handle("POST /app/workspaces/{id}/limits", d.setLimits)
	handle("GET /app/workspaces/{id}/image", d.image)
	handle("POST /app/workspaces/{id}/image", d.changeImage)
	handle("POST /app/workspaces/{id}/preferences", d.saveFromDetail)
	handle("GET /app/workspaces/{id}/preferences/{name}", d.difference)
	handle("POST /app/workspaces/{id}/preferences/{name}", d.resolve)
	handle("GET /app/disk", d.disk)
	handle("GET /app/disk/live", d.diskLive)
	handle("GET /app/settings", d.settings)
	handle("GET /app/settings/live", d.settingsLive)
	handle("POST /app/settings", d.saveFromSettings)
	handle("GET /app/settings/{name}", d.stored)
	handle("POST /app/settings/{name}/remove", d.forget)
	handle("/app/", func(http.ResponseWriter, *http.Request) error {
		return agent.Errorf(agent.CodeNotFound, "There is no page at this address.")
	})
	return mux
}

// statuses maps the codes of faults to HTTP statuses of pages.
var statuses = map[string]int{
	agent.CodeValidation:  http.StatusBadRequest,
	agent.CodeNotFound:    http.StatusNotFound,
	agent.CodeConflict:    http.StatusConflict,
	agent.CodeTooLarge:    http.StatusRequestEntityTooLarge,
	agent.CodeUnavailable: http.StatusServiceUnavailable,
	agent.CodeNoSpace:     http.StatusInsufficientStorage,
}

// explain splits a fault into its status and what the user is told. What is
// not for users is logged.
func (d *Dashboard) explain(r *http.Request, err error) (int, *agent.Error) {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		err = agent.Errorf(agent.CodeTooLarge, "That was more than a form may send.")
	}
	e, ok := errors.AsType[*agent.Error](err)
	if ok && statuses[e.Code] != 0 {
		return statuses[e.Code], e
	}
	if r.Context().Err() == nil {
		d.Log.Error("page failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	return http.StatusInternalServerError, agent.Errorf(agent.CodeInternal, "Something went wrong. The agent's log has the details.")
}

// fail answers with a page that says what is wrong and leads back.
func (d *Dashboard) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, e := d.explain(r, err)
	title := "Something went wrong"
	switch status {
	case http.StatusNotFound:
		title = "Nothing here"
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge:
		title = "That did not work"
	}
	v := failureView{layout: d.layout(title, ""), Message: e.Message}
	if r.Method == http.MethodGet && status == http.StatusInternalServerError {
		v.Again = r.URL.RequestURI()
	}
	if err := d.render(w, status, "failure.html", v); err != nil {
		d.Log.Error("render the page of a fault", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

// render writes a whole page, or nothing when its template fails.
func (d *Dashboard) render(w http.ResponseWriter, status int, name string, view any) error {
	var b bytes.Buffer
	if err := pages[name].ExecuteTemplate(&b, "layout.html", view); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
	return nil
}

// origin is the root of one of the VM's web servers as the browser that sent
// r sees it: the same scheme and host name, that server's port on the host.
func origin(r *http.Request, port int) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "" {
		host = "127.0.0.1"
	}
	scheme := "http://"
	if r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, fmt.Sprint(port))
}
