package http

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

// routePath is where Caddy's forward_auth asks where a request goes. Caddy
// forwards nothing else to the agent from the servers for IDEs and previews,
// and the name of the server, which it alone can set, is what opens this path.
const routePath = "/internal/route"

// decide answers 200 and the upstream in a header, or what the browser gets
// instead.
func (s *Server) decide(w http.ResponseWriter, r *http.Request) {
	if rec, ok := w.(*recorder); ok {
		rec.route = routePath
	}
	asked, err := url.ParseRequestURI(r.Header.Get("X-Forwarded-Uri"))
	if err != nil || r.Method != http.MethodGet || !climbsNowhere(asked) {
		s.noWorkspace(w, r)
		return
	}
	if foreign(r, asked) {
		s.refuse(w, r, http.StatusForbidden, errCrossOrigin(), content{
			Title: "Refused", Text: []string{"Another site asked your browser to do this."}, Back: true,
		})
		return
	}
	preview := r.Header.Get(serverHeader) == serverPreview
	if m := editorsProxy.FindStringSubmatch(asked.Path); m != nil && !preview {
		s.toPreview(w, r, asked, m)
		return
	}
	route, err := s.ControlPlane.Route(r.Context(), agent.RouteRequest{Preview: preview, Path: asked.EscapedPath()})
	switch {
	case err != nil:
		s.noRoute(w, r, asked, err)
	case route.Redirect != "":
		to := "/" + strings.TrimLeft(route.Redirect, "/") // never another host
		if asked.RawQuery != "" {
			to += "?" + asked.RawQuery
		}
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	default:
		w.Header().Set(upstreamHeader, route.Upstream)
		w.WriteHeader(http.StatusOK)
	}
}

// editorsProxy are the paths at which code-server itself passes requests on to
// any port of a workspace. Express takes them in upper case, too.
var editorsProxy = regexp.MustCompile(`(?is)^/workspace/([^/]+)/+(?:abs)?proxy(?:/+([^/]*)(/.*)?)?$`)

// toPreview sends a browser that was given code-server's address of a port to
// the server for previews: what an application sends must not come from the
// origin of the IDEs. m is a match of editorsProxy.
func (s *Server) toPreview(w http.ResponseWriter, r *http.Request, asked *url.URL, m []string) {
	method := r.Header.Get("X-Forwarded-Method")
	if _, err := strconv.ParseUint(m[2], 10, 16); err != nil || r.Header.Get("Sec-WebSocket-Key") != "" || method != http.MethodGet && method != http.MethodHead {
		s.noWorkspace(w, r)
		return
	}
	to := s.address(r, s.Ports.Preview)
	to.Path, to.RawQuery = fmt.Sprintf("/workspace/%s/port/%s%s", m[1], m[2], cmp.Or(m[3], "/")), asked.RawQuery
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusFound)
}

// climbsNowhere reports whether no segment of the path is "." or "..": Caddy
// and the upstream would not agree on what those mean.
func climbsNowhere(u *url.URL) bool {
	if !strings.HasPrefix(u.Path, "/") || u.Host != "" {
		return false
	}
	for segment := range strings.SplitSeq(strings.ReplaceAll(u.Path, "\\", "/"), "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// foreign reports whether another origin asks for something that changes
// state, or opens a WebSocket, which browsers let any site do. For those only
// the Origin counts: browsers do not agree on what else to say of them.
func foreign(r *http.Request, asked *url.URL) bool {
	if r.Header.Get("Sec-WebSocket-Key") != "" {
		origin := r.Header.Get("Origin")
		if origin == "" {
			return false // not a browser
		}
		u, err := url.Parse(origin)
		return err != nil || u.Host != r.Host
	}
	request := &http.Request{Method: r.Header.Get("X-Forwarded-Method"), URL: asked, Host: r.Host, Header: r.Header}
	return http.NewCrossOriginProtection().Check(request) != nil
}

// noRoute says why a request goes nowhere.
func (s *Server) noRoute(w http.ResponseWriter, r *http.Request, asked *url.URL, err error) {
	switch agent.ErrorCode(err) {
	case agent.CodeNotFound, agent.CodeValidation:
		s.refuse(w, r, http.StatusNotFound, err, missing(asked.Path))
	case agent.CodeConflict, agent.CodeUnavailable:
		w.Header().Set("Retry-After", "2")
		s.refuse(w, r, http.StatusServiceUnavailable, err, s.resting(r, asked.Path, err))
	default:
		s.fail(w, r, fmt.Errorf("decide route: %w", err))
	}
}

// resting is the page for a workspace that exists and does not serve.
func (s *Server) resting(r *http.Request, path string, err error) content {
	c := content{Title: "This workspace is not available", Text: []string{err.Error()}, Back: true}
	m := workspacePath.FindStringSubmatch(path)
	if m == nil {
		return c
	}
	found, lookup := s.ControlPlane.WorkspaceByName(r.Context(), m[1])
	if lookup != nil {
		return c
	}
	c.Title = fmt.Sprintf("Workspace “%s” is not available", found.Name)
	c.Text = []string{"Its state is: " + string(found.Status) + "."}
	if found.ErrorMessage != "" {
		c.Text = append(c.Text, found.ErrorMessage)
	}
	if found.Status == agent.StatusCreating {
		c.Text = append(c.Text, "It will be there in a moment. This page looks again by itself.")
		c.Refresh = 2
	} else {
		c.Text = append(c.Text, "Start it from the list of workspaces.")
	}
	return c
}

// missing is the page for an IDE or a preview that is not there.
func missing(path string) content {
	c := pageNotFound()
	if m := previewPath.FindStringSubmatch(path); m != nil {
		c.Title = "No such preview"
		c.Text = []string{fmt.Sprintf("There is no workspace named “%s” with port %s.", m[1], m[2]), "If the workspace is there, register the port on its page first."}
	} else if m := workspacePath.FindStringSubmatch(path); m != nil {
		c.Title = "No such workspace"
		c.Text = []string{fmt.Sprintf("There is no workspace named “%s”.", m[1])}
	}
	return c
}

// refuse answers with a page where a person may be looking, and with JSON
// where a program asked.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, err error, c content) {
	if wantsPage(r) {
		s.page(w, r, status, c)
		return
	}
	code := agent.ErrorCode(err)
	if status == http.StatusServiceUnavailable {
		code = agent.CodeUnavailable
	}
	s.json(w, status, errorBody{
		Error:   errorDetail{Code: code, Message: err.Error()},
		Message: err.Error(),
		Status:  status,
	})
}

var pageType = regexp.MustCompile(`(?i)text/html|application/xhtml\+xml`)

// wantsPage reports whether r comes from something that shows pages: it says
// so, or says nothing about what it wants.
func wantsPage(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return accept == "" || pageType.MatchString(accept)
}
