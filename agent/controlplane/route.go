package controlplane

import (
	"context"
	"fmt"
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
func (c *ControlPlane) Route(ctx context.Context, name string, port int) (agent.Route, error) {
	id, route, err := c.routes.find(name, port)
	if err != nil || port == 0 {
		return route, err
	}
	if route.Upstream, err = c.cfg.Previews.Preview(ctx, id, port); err != nil {
		return agent.Route{}, fmt.Errorf("route to port %d of %s: %w", port, name, err)
	}
	return route, nil
}

// find returns the id of the workspace with this name, and the way to its IDE.
func (t *routeTable) find(name string, port int) (string, agent.Route, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.byName[name]
	switch {
	case e == nil:
		return "", agent.Route{}, agent.Errorf(agent.CodeNotFound, "Workspace %q not found", name)
	case e.status != agent.StatusRunning:
		return "", agent.Route{}, notRunning(e.name, e.status)
	case port == agent.IDEPort: // registered with a former agent
		return "", agent.Route{}, agent.Errorf(agent.CodeNotFound, "Port %d is the IDE's own, which no preview shows", port)
	case port != 0 && !e.ports[port]:
		return "", agent.Route{}, agent.Errorf(agent.CodeNotFound, "Port %d is not registered for workspace %q", port, name)
	}
	return e.id, agent.Route{Workspace: e.name, Port: port, Upstream: e.address}, nil
}

func notRunning(name string, s agent.Status) error {
	return agent.Errorf(agent.CodeConflict, "Workspace %q is not running (current: %q)", name, s)
}
