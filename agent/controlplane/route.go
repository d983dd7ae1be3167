package controlplane

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/rockpool/rootvm/agent"
)

// routeTable is what [ControlPlane.Route] reads: the rows' names, states,
// addresses and ports, in memory.
type routeTable struct {
	mu     sync.RWMutex
	byName map[string]*routeEntry
	byID   map[string]*routeEntry
}

type routeEntry struct {
	id, name, address string
	status            agent.Status
	ports             map[int]bool
}

func newRouteTable() *routeTable {
	return &routeTable{byName: map[string]*routeEntry{}, byID: map[string]*routeEntry{}}
}

// loadRoutes fills the table from the store.
func (c *ControlPlane) loadRoutes(ctx context.Context) error {
	select {
	case c.writing <- struct{}{}: // nothing is committed between reading and filling
		defer func() { <-c.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	fresh := newRouteTable()
	err := c.cfg.Store.View(ctx, func(tx agent.Tx) error {
		all, err := tx.Workspaces(agent.Cursor{}, everything)
		if err != nil {
			return err
		}
		ports, err := tx.Ports("")
		for _, rec := range all {
			fresh.put(rec.Workspace)
		}
		for _, p := range ports {
			fresh.byID[p.WorkspaceID].ports[p.Port] = true
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("load routes: %w", err)
	}
	c.routes.mu.Lock()
	defer c.routes.mu.Unlock()
	c.routes.byName, c.routes.byID = fresh.byName, fresh.byID
	return nil
}

// change applies what was committed, all at once.
func (t *routeTable) change(apply []func(*routeTable)) {
	if apply == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range apply {
		f(t)
	}
}

func (t *routeTable) put(w agent.Workspace) {
	e := t.byID[w.ID]
	if e == nil {
		e = &routeEntry{id: w.ID, name: w.Name, ports: map[int]bool{}}
		t.byID[w.ID], t.byName[w.Name] = e, e
	}
	e.status, e.address = w.Status, w.Address
}

func (t *routeTable) remove(id string) {
	if e := t.byID[id]; e != nil {
		delete(t.byID, id)
		delete(t.byName, e.name)
	}
}

func (t *routeTable) setPorts(id string, ports []agent.Port) {
	e := t.byID[id]
	if e == nil {
		return
	}
	e.ports = map[int]bool{}
	for _, p := range ports {
		e.ports[p.Port] = true
	}
}

// idOf is the id of the workspace with a name, "" when there is none.
func (t *routeTable) idOf(name string) string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if e := t.byName[name]; e != nil {
		return e.id
	}
	return ""
}

// Route implements [agent.Routes].
func (c *ControlPlane) Route(_ context.Context, r agent.RouteRequest) (agent.Route, error) {
	p, err := parsePath(r)
	if err != nil {
		return agent.Route{}, err
	}
	c.routes.mu.RLock()
	defer c.routes.mu.RUnlock()
	e := c.routes.byName[p.name]
	switch {
	case e == nil:
		return agent.Route{}, agent.Errorf(agent.CodeNotFound, "Workspace %q not found", p.name)
	case e.status != agent.StatusRunning:
		return agent.Route{}, notRunning(e.name, e.status)
	case r.Preview && !e.ports[p.port]:
		return agent.Route{}, agent.Errorf(agent.CodeNotFound, "Port %d is not registered for workspace %q", p.port, p.name)
	case p.redirect:
		return agent.Route{Workspace: e.name, Port: p.port, Redirect: r.Path + "/"}, nil
	}
	return agent.Route{Workspace: e.name, Port: p.port, Upstream: e.address}, nil
}

func notRunning(name string, s agent.Status) error {
	return agent.Errorf(agent.CodeConflict, "Workspace %q is not running (current: %q)", name, s)
}

// routePath is what a path says.
type routePath struct {
	name     string
	port     int  // of a preview
	redirect bool // the slash after the name or the port is missing
}

const maxPath = 16 << 10

var (
	idePath     = regexp.MustCompile(`^/workspace/([a-z0-9-]{3,63})(/|$)`)
	previewPath = regexp.MustCompile(`^/workspace/([a-z0-9-]{3,63})/port/([1-9][0-9]{3,4})(/|$)`)
)

// parsePath reads the escaped path of a request. The part that decides must
// be there literally: Caddy compares the decoded path, so that an encoded
// name could mean one thing here and another there.
func parsePath(r agent.RouteRequest) (routePath, error) {
	if !unambiguous(r.Path) {
		return routePath{}, agent.Errorf(agent.CodeValidation, "The address is not valid: encoded names, empty segments and dots for directories are not allowed")
	}
	pattern := idePath
	if r.Preview {
		pattern = previewPath
	}
	m := pattern.FindStringSubmatch(r.Path)
	if m == nil {
		return routePath{}, agent.Errorf(agent.CodeNotFound, "There is nothing at this address")
	}
	p := routePath{name: m[1], redirect: m[len(m)-1] == ""}
	if r.Preview {
		port, err := strconv.Atoi(m[2])
		if err != nil || port < 1024 || port > 65535 {
			return routePath{}, agent.Errorf(agent.CodeNotFound, "There is no port %s", m[2])
		}
		p.port = port
	}
	return p, nil
}

// unambiguous reports whether every program reads the path alike: absolute,
// no empty segments, no dot segments in any spelling, nothing that is not
// printable, and no escapes before the third slash.
func unambiguous(escaped string) bool {
	if len(escaped) > maxPath || !strings.HasPrefix(escaped, "/") || strings.Contains(escaped, "//") {
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
