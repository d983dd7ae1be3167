// Package api is the agent's HTTP API as it is on the wire: its operations with
// their paths and parameters, the shapes of bodies and answers, errors and
// server-sent events. Server, client and the commands that print JSON use it,
// so that each name stands here once; agent/http/openapi.json describes the
// same for others and is held against it. It has no state and imports only the
// domain.
//
// The domain's noun for the user's files that follow them is preference; on
// the wire it is a setting (/api/settings, the event "setting"), because
// clients know it so.
package api

import (
	"net/http"
	"net/url"
	"strings"
)

// Operation is one thing that can be asked: a method of a path.
type Operation struct {
	Method  string
	Pattern string   // as [http.ServeMux] takes it, without the method
	Query   []string // names of the parameters that it knows; others are a fault

	// AnyQuery lets it take parameters that nobody knows.
	AnyQuery bool
}

// Path is the operation's path with the parts that its pattern leaves open, in
// their order. They are escaped here.
func (o Operation) Path(parts ...string) string {
	segments := strings.Split(o.Pattern, "/")
	for i, s := range segments {
		if strings.HasPrefix(s, "{") {
			segments[i], parts = url.PathEscape(parts[0]), parts[1:]
		}
	}
	return strings.Join(segments, "/")
}

// The names of query parameters.
const (
	QueryLimit       = "limit"  // at most so many items
	QueryCursor      = "cursor" // place in a list
	QueryFollow      = "follow" // go on with what is added
	QueryTail        = "tail"   // the last lines only
	QuerySource      = "source" // which log: [LogContainer] or [LogSteps]
	QueryWorkspaceID = "workspaceId"
	QueryConfirm     = "confirm" // digest of the difference that a person agreed to
	QueryPath        = "path"    // of a file in a workspace
	QuerySort        = "sort"
	QueryPage        = "page"
	QueryPerPage     = "per_page"
	QueryText        = "q"
)

// The logs of a workspace.
const (
	LogContainer = "container" // what its processes wrote
	LogSteps     = "steps"     // what its jobs did
)

// The types of bodies.
const (
	TypeJSON   = "application/json"
	TypeBytes  = "application/octet-stream"
	TypeEvents = "text/event-stream"
)

// Operations stand beside their shapes. A new one is a line in this package, a
// handler with its line in package http, a method of package client, and its
// description in openapi.json.

// The operations on the agent itself, and on who asks.
var (
	Health  = Operation{Method: http.MethodGet, Pattern: "/api/health", AnyQuery: true}
	Ping    = Operation{Method: http.MethodGet, Pattern: "/api/ping"}
	OpenAPI = Operation{Method: http.MethodGet, Pattern: "/api/openapi.json"}
	Metrics = Operation{Method: http.MethodGet, Pattern: "/api/metrics"}
	Events  = Operation{Method: http.MethodGet, Pattern: "/api/events"}

	GetMe        = Operation{Method: http.MethodGet, Pattern: "/api/auth/me"}
	Logout       = Operation{Method: http.MethodPost, Pattern: "/api/auth/logout"}
	LogoutByLink = Operation{Method: http.MethodGet, Pattern: "/api/auth/logout"}
	Login        = Operation{Method: http.MethodGet, Pattern: "/api/auth/github", AnyQuery: true}
)

// In bodies a member without omitempty is required, though it may be empty.
// Answers have all their members.

// Acknowledgement is the answer of [Ping] and of a logout.
type Acknowledgement struct {
	Status string `json:"status"` // "ok"
}

// Me is whom Caddy let in.
type Me struct {
	User User `json:"user"`
}

// User is a user. There is one, and its id is 0.
type User struct {
	ID       int    `json:"id"`
	Username string `json:"username"`
}
