// Package gateway decides where a request of an IDE or a preview goes, for
// Caddy, which asks before it forwards one, and has the pages for requests that
// go nowhere. It keeps no state: what runs where is asked of the control plane,
// for every request. It imports only the domain, agent/api and the ports of
// package guest.
package gateway

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
	"github.com/rockpool/rootvm/guest"
)

// Workspaces is asked for the state of a workspace that does not serve.
type Workspaces interface {
	WorkspaceByName(ctx context.Context, name string) (agent.Workspace, error)
}

// Gateway answers Caddy. All fields must be set.
type Gateway struct {
	Routes     agent.Routes
	Workspaces Workspaces
	Ports      guest.Ports // on the host, to build addresses that a browser can use
}

// Decide answers the question of Caddy's forward_auth at [api.RoutePath]: 200
// and the upstream in a header, or what the browser gets instead. An error is
// a fault of the agent's own; then nothing was written.
func (g *Gateway) Decide(w http.ResponseWriter, r *http.Request) error {
	asked, err := url.ParseRequestURI(r.Header.Get("X-Forwarded-Uri"))
	if err != nil || r.Method != http.MethodGet || !climbsNowhere(asked) {
		return g.NoWorkspace(w, r)
	}
	if foreign(r, asked) {
		return g.refuseRequest(w, r, http.StatusForbidden, api.CrossOrigin(), content{
			Title: "Refused", Text: []string{"Another site asked your browser to do this."}, Back: true,
		})
	}

	preview := r.Header.Get(api.HeaderServer) == api.ServerPreview
	if m := editorsProxy.FindStringSubmatch(asked.Path); m != nil && !preview {
		return g.toPreview(w, r, asked, m)
	}
	to, err := g.Destination(r.Context(), preview, asked.EscapedPath())
	switch {
	case err != nil:
		return g.noRoute(w, r, asked, err)
	case to.Redirect != "":
		location := "/" + strings.TrimLeft(to.Redirect, "/") // never another host
		if asked.RawQuery != "" {
			location += "?" + asked.RawQuery
		}
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusFound)
	default:
		if exact := exactURI(r.Header.Get("X-Forwarded-Uri"), asked); preview && exact != "" && r.Header.Get("Sec-WebSocket-Key") == "" {
			w.Header().Set("Location", exact)
			w.WriteHeader(http.StatusTemporaryRedirect) // the same method, the same body
			return nil
		}
		w.Header().Set(api.HeaderUpstream, to.Upstream)
		w.WriteHeader(http.StatusOK)
	}
	return nil
}

// exactURI is uri with every character of its path escaped that needs it, where
// otherwise Caddy would write the path anew, and %2F as a slash. Browsers leave
// some, such as "|". It is "" where Caddy passes the path on as it is, or has
// nothing to lose. asked is uri, parsed.
func exactURI(uri string, asked *url.URL) string {
	path, query, some := strings.Cut(uri, "?")
	if !strings.Contains(path, "%") || asked.EscapedPath() == path {
		return ""
	}
	var b strings.Builder
	for _, c := range []byte(path) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~!$&'()*+,;=:@/%", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	if b.String() == path {
		return ""
	}
	if some {
		b.WriteString("?" + query)
	}
	return b.String()
}

// editorsProxy are the paths at which code-server itself passes requests on to
// any port of a workspace. Express takes them in upper case, too.
var editorsProxy = regexp.MustCompile(`(?is)^/workspace/([^/]+)/+(?:abs)?proxy(?:/+([^/]*)(/.*)?)?$`)

// toPreview sends a browser that was given code-server's address of a port to
// the server for previews: what an application sends must not come from the
// origin of the IDEs. m is a match of editorsProxy.
func (g *Gateway) toPreview(w http.ResponseWriter, r *http.Request, asked *url.URL, m []string) error {
	method := r.Header.Get("X-Forwarded-Method")
	if _, err := strconv.ParseUint(m[2], 10, 16); err != nil || r.Header.Get("Sec-WebSocket-Key") != "" || method != http.MethodGet && method != http.MethodHead {
		return g.NoWorkspace(w, r)
	}
	to := g.address(r, g.Ports.Preview)
	rest := (&url.URL{Path: m[3]}).EscapedPath()
	if e := editorsProxy.FindStringSubmatch(asked.EscapedPath()); e != nil { // as the application wrote it
		rest = e[3]
	}
	to.RawPath = fmt.Sprintf("/workspace/%s/port/%s%s", m[1], m[2], cmp.Or(rest, "/"))
	to.Path, to.RawQuery = fmt.Sprintf("/workspace/%s/port/%s%s", m[1], m[2], cmp.Or(m[3], "/")), asked.RawQuery
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusFound)
	return nil
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
// state, or opens a WebSocket, which browsers let any site do. For WebSockets
// only the Origin counts: browsers do not agree on what else to say of them.
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
func (g *Gateway) noRoute(w http.ResponseWriter, r *http.Request, asked *url.URL, err error) error {
	switch agent.ErrorCode(err) {
	case agent.CodeNotFound, agent.CodeValidation:
		page := missing(asked.Path)
		if r.Header.Get(api.HeaderServer) == api.ServerPreview && !workspacePath.MatchString(asked.Path) {
			page = absolute(asked.Path, r.Header.Get("Referer"))
		}
		return g.refuseRequest(w, r, http.StatusNotFound, err, page)
	case agent.CodeConflict, agent.CodeUnavailable:
		w.Header().Set("Retry-After", "2")
		return g.refuseRequest(w, r, http.StatusServiceUnavailable, err, g.resting(r, asked.Path, err))
	}
	return fmt.Errorf("decide route: %w", err)
}

// resting is the page for a workspace that exists and does not serve.
func (g *Gateway) resting(r *http.Request, path string, err error) content {
	c := content{Title: "This workspace is not available", Text: []string{err.Error()}, Back: true}
	m := workspacePath.FindStringSubmatch(path)
	if m == nil {
		return c
	}
	found, lookup := g.Workspaces.WorkspaceByName(r.Context(), m[1])
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

// absolute is the page for an address that an application in a preview took to
// be its own: it does not know below which path it is shown. The page that the
// browser came from tells the path.
func absolute(path, referer string) content {
	base := "/workspace/NAME/port/PORT"
	c := content{
		Title: "The application asked for an address outside its preview",
		Text: []string{
			fmt.Sprintf("It asked for “%s”, as if it were served from “/”. A preview is served from a path of its own.", path),
		},
		Back: true,
	}
	if u, err := url.Parse(referer); err == nil {
		if m := strictPreview.FindStringSubmatch(u.Path); m != nil {
			base = fmt.Sprintf("/workspace/%s/port/%s", m[1], m[2])
			c.Preview = base + "/"
		}
	}

	c.Text = append(c.Text, "Tell the application that path, and start it again:")
	c.Options = []option{
		{"Vite, Vue, Svelte, Astro", "vite --base " + base + "/"},
		{"Next.js, in next.config.js", "basePath: '" + base + "'"},
		{"Nuxt", "NUXT_APP_BASE_URL=" + base + "/ nuxt dev"},
		{"Create React App", "PUBLIC_URL=" + base + " npm start"},
		{"Angular", "ng serve --serve-path " + base + "/"},
		{"webpack-dev-server", "webpack serve --output-public-path " + base + "/"},
		{"Anything else", "its setting for a base path, public path, root path or URL prefix: " + base + "/"},
	}
	return c
}

// refuseRequest answers with a page where a person may be looking, and with JSON
// where a program asked.
func (g *Gateway) refuseRequest(w http.ResponseWriter, r *http.Request, status int, err error, c content) error {
	if wantsPage(r) {
		return g.page(w, r, status, c)
	}
	code := agent.ErrorCode(err)
	if status == http.StatusServiceUnavailable {
		code = agent.CodeUnavailable
	}
	return api.WriteJSON(w, status, api.FromError(&agent.Error{Code: code, Message: err.Error()}, status))
}

var pageType = regexp.MustCompile(`(?i)text/html|application/xhtml\+xml`)

// wantsPage reports whether r comes from something that shows pages: it says
// so, or says nothing about what it wants.
func wantsPage(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return accept == "" || pageType.MatchString(accept)
}
