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
	QueryPath        = "path" // of a file in a workspace
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

// The operations. A new one is a line here, a handler in package http, a
// method of package client and its description in openapi.json.
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

	ListWorkspaces  = Operation{Method: http.MethodGet, Pattern: "/api/workspaces", Query: []string{QueryLimit, QueryCursor}}
	CreateWorkspace = Operation{Method: http.MethodPost, Pattern: "/api/workspaces"}
	GetWorkspace    = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}"}
	DeleteWorkspace = Operation{Method: http.MethodDelete, Pattern: "/api/workspaces/{id}"}
	StartWorkspace  = Operation{Method: http.MethodPost, Pattern: "/api/workspaces/{id}/start"}
	StopWorkspace   = Operation{Method: http.MethodPost, Pattern: "/api/workspaces/{id}/stop"}
	ListSteps       = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}/steps"}
	GetUsage        = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}/usage"}
	GetLogs         = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}/logs", Query: []string{QueryFollow, QueryTail, QuerySource}}
	ListPorts       = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}/ports"}
	AddPort         = Operation{Method: http.MethodPost, Pattern: "/api/workspaces/{id}/ports"}
	RemovePort      = Operation{Method: http.MethodDelete, Pattern: "/api/workspaces/{id}/ports/{port}"}

	ListPreferences = Operation{Method: http.MethodGet, Pattern: "/api/settings"}
	GetPreference   = Operation{Method: http.MethodGet, Pattern: "/api/settings/{name}"}
	SavePreference  = Operation{Method: http.MethodPut, Pattern: "/api/settings/{name}", Query: []string{QueryWorkspaceID}}

	ListRepositories   = Operation{Method: http.MethodGet, Pattern: "/api/github/repos", Query: []string{QuerySort, QueryPage, QueryPerPage}}
	SearchRepositories = Operation{Method: http.MethodGet, Pattern: "/api/github/repos/search", Query: []string{QueryText, QueryPage, QueryPerPage}}

	CreateContainer    = Operation{Method: http.MethodPost, Pattern: "/api/runtime/{id}/create"}
	StartContainer     = Operation{Method: http.MethodPost, Pattern: "/api/runtime/{id}/start"}
	StopContainer      = Operation{Method: http.MethodPost, Pattern: "/api/runtime/{id}/stop"}
	RemoveContainer    = Operation{Method: http.MethodPost, Pattern: "/api/runtime/{id}/remove"}
	GetContainerStatus = Operation{Method: http.MethodGet, Pattern: "/api/runtime/{id}/status"}
	GetAddress         = Operation{Method: http.MethodGet, Pattern: "/api/runtime/{id}/address"}
	ConfigureIDE       = Operation{Method: http.MethodPost, Pattern: "/api/runtime/{id}/configure"}
	CloneRepository    = Operation{Method: http.MethodPost, Pattern: "/api/runtime/{id}/clone"}
	ReadFile           = Operation{Method: http.MethodGet, Pattern: "/api/runtime/{id}/readFile", Query: []string{QueryPath}}
	WriteFile          = Operation{Method: http.MethodPut, Pattern: "/api/runtime/{id}/writeFile", Query: []string{QueryPath}}
)
