package gateway

import (
	"context"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

// Destination is where a request goes: to the upstream of a route, or the
// browser elsewhere. Exactly one of Upstream and Redirect is set.
type Destination struct {
	agent.Route
	Redirect string // path to send the browser to: the same with a slash at its end
}

// Destination returns where a request for an escaped path, without the query,
// goes that reached the server for IDEs or for previews. Errors are those of
// [agent.Routes], [agent.CodeNotFound] for a path that leads nowhere, and
// [agent.CodeValidation] for one that two programs could read differently
// (encoded names, dot segments; double slashes of an IDE's path).
func (g *Gateway) Destination(ctx context.Context, preview bool, escaped string) (Destination, error) {
	p, err := parsePath(preview, escaped)
	if err != nil {
		return Destination{}, err
	}
	route, err := g.Routes.Route(ctx, p.name, p.port)
	if err != nil {
		return Destination{}, err
	}
	if p.redirect {
		route.Upstream = ""
		return Destination{Route: route, Redirect: escaped + "/"}, nil
	}
	return Destination{Route: route}, nil
}

// routePath is what a path says.
type routePath struct {
	name     string
	port     int  // of a preview
	redirect bool // the slash after the name or the port is missing
}

const maxPath = 16 << 10

var (
	strictIDE     = regexp.MustCompile(`^/workspace/([a-z0-9-]{3,63})(/|$)`)
	strictPreview = regexp.MustCompile(`^/workspace/([a-z0-9-]{3,63})/port/([1-9][0-9]{3,4})(/|$)`)
)

// parsePath reads the escaped path of a request to one of Caddy's servers. The part that decides must
// be there literally: Caddy compares the decoded path, so that an encoded
// name could mean one thing here and another there.
func parsePath(preview bool, escaped string) (routePath, error) {
	if !unambiguous(escaped) || !preview && strings.Contains(escaped, "//") {
		return routePath{}, agent.Errorf(agent.CodeValidation, "The address is not valid: encoded names, empty segments and dots for directories are not allowed")
	}
	pattern := strictIDE
	if preview {
		pattern = strictPreview
	}
	m := pattern.FindStringSubmatch(escaped)
	if m == nil {
		return routePath{}, agent.Errorf(agent.CodeNotFound, "There is nothing at this address")
	}
	p := routePath{name: m[1], redirect: m[len(m)-1] == ""}
	if preview {
		port, err := strconv.Atoi(m[2])
		if err != nil || port < 1024 || port > 65535 {
			return routePath{}, agent.Errorf(agent.CodeNotFound, "There is no port %s", m[2])
		}
		p.port = port
	}
	return p, nil
}

// unambiguous reports whether every program reads the path alike: absolute,
// no dot segments in any spelling, nothing that is not printable, and no escapes
// before the third slash. Empty segments are the application's of a preview,
// behind the part that decides.
func unambiguous(escaped string) bool {
	if len(escaped) > maxPath || !strings.HasPrefix(escaped, "/") {
		return false
	}
	if strings.ContainsFunc(escaped, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`?#\`, c) }) {
		return false
	}
	if head := strings.SplitN(escaped, "/", 4); strings.Contains(strings.Join(head[:min(3, len(head))], ""), "%") {
		return false
	}
	plain, err := url.PathUnescape(escaped)
	if err != nil || strings.ContainsFunc(plain, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return false
	}
	for s := range strings.FieldsFuncSeq(plain, func(c rune) bool { return c == '/' || c == '\\' }) {
		if s == "." || s == ".." {
			return false
		}
	}
	return true
}
