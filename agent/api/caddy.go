package api

import "net/http"

// Headers that Caddy sets or the agent itself does, and that Caddy removes from
// what clients send.
const (
	HeaderServer   = "X-Rockpool-Server"   // which of Caddy's servers was asked
	HeaderUser     = "X-Rockpool-User"     // whom the agent let in
	HeaderDevice   = "X-Rockpool-Device"   // value of the cookie [DeviceCookie]
	HeaderUpstream = "X-Rockpool-Upstream" // the agent's answer to it: where a request goes
)

// DeviceCookie is the cookie by which a browser that was let in is known again
// when others guess passwords. It lets nobody in, and does not reach workspaces.
const DeviceCookie = "rockpool_device"

// HealthPath is answered without credentials.
const HealthPath = "/api/health"

// Caddy's three servers. Only the dashboard's has the API. The others are
// origins of their own, so that neither an IDE nor an application in a preview
// can speak to the API as the user.
const (
	ServerDashboard = "srv0"
	ServerIDE       = "srv1"
	ServerPreview   = "srv2"
)

// RoutePath is where Caddy's forward_auth asks where a request goes. Caddy
// forwards nothing else to the agent from the servers for IDEs and previews,
// and the name of the server, which it alone can set, is what opens this path.
const RoutePath = "/internal/route"

// ToDashboard reports whether r is for the server that has the API. A request
// without a server's name came from inside, by the socket, and is one.
func ToDashboard(r *http.Request) bool {
	name := r.Header.Get(HeaderServer)
	return name == "" || name == ServerDashboard
}
