package http

import "net/http"

// Route is a route of the server, for tests.
type Route struct {
	Pattern string
	Query   []string // nil: any
	Methods []string
}

// Routes lists what the dashboard's server is registered for.
func Routes() []Route {
	var out []Route
	for _, r := range (&Server{}).routes() {
		rt := Route{Pattern: r.pattern, Query: r.query}
		for m := range r.methods {
			rt.Methods = append(rt.Methods, m)
		}
		out = append(out, rt)
	}
	return out
}

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
