package http

import (
	"maps"
	"net/http"
	"slices"
)

// Route is a path of the server and all that can be asked of it, for tests.
type Route struct {
	Pattern string
	Query   []string
	Methods []string
}

// Routes lists what the dashboard's server is registered for.
func Routes() []Route {
	var out []Route
	for _, p := range endpoints((&Server{Gateway: noGateway{}}).routes()) {
		out = append(out, Route{Pattern: p.pattern, Query: p.query, Methods: slices.Collect(maps.Keys(p.methods))})
	}
	return out
}

type noGateway struct{ Gateway }

func (noGateway) ToIDE(http.ResponseWriter, *http.Request) error { return nil }

// DecodeWorkspace and DecodePort read bodies as the handlers do.
func DecodeWorkspace(b []byte) error {
	f, err := decodeObject(b)
	if err != nil {
		return err
	}
	_, err = newWorkspace(f)
	return err
}

// PlainPath is the guard's check.
func PlainPath(r *http.Request) bool { return plainPath(r) }
