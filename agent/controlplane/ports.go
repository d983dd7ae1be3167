package controlplane

import (
	"context"
	"fmt"
	"slices"

	"github.com/rockpool/rootvm/agent"
)

// ListPorts implements [agent.Ports].
func (c *ControlPlane) ListPorts(ctx context.Context, workspaceID string) (ports []agent.Port, err error) {
	err = c.cfg.Store.View(ctx, func(tx agent.Tx) error {
		if _, err := tx.Workspace(workspaceID); err != nil {
			return err
		}
		ports, err = tx.Ports(workspaceID)
		return err
	})
	return ports, err
}

// AddPort implements [agent.Ports].
func (c *ControlPlane) AddPort(ctx context.Context, workspaceID string, n agent.NewPort) (agent.Port, error) {
	if err := n.Validate(); err != nil {
		return agent.Port{}, err
	}

	var p agent.Port
	err := c.update(ctx, func(ch *change) error {
		ports, err := ch.managedPorts(workspaceID)
		switch {
		case err != nil:
			return err
		case slices.ContainsFunc(ports, func(o agent.Port) bool { return o.Port == n.Port }):
			return agent.Errorf(agent.CodeConflict, "Port %d is already registered for this workspace", n.Port)
		case len(ports) >= agent.MaxPorts:
			return agent.Errorf(agent.CodeConflict, "Maximum of %d ports per workspace reached", agent.MaxPorts)
		}
		p = agent.Port{WorkspaceID: workspaceID, Port: n.Port, Label: n.Label, CreatedAt: ch.now}
		if err := ch.InsertPort(p); err != nil {
			return err
		}
		return ch.portsChanged(workspaceID)
	})
	return p, err
}

// RemovePort implements [agent.Ports].
func (c *ControlPlane) RemovePort(ctx context.Context, workspaceID string, port int) error {
	return c.update(ctx, func(ch *change) error {
		if _, err := ch.managedPorts(workspaceID); err != nil {
			return err
		}
		was, err := ch.DeletePort(workspaceID, port)
		if err != nil {
			return err
		}
		if !was {
			return agent.Errorf(agent.CodeNotFound, "Port %d is not registered for this workspace", port)
		}
		return ch.portsChanged(workspaceID)
	})
}

// Listening implements [agent.Ports].
func (c *ControlPlane) Listening(ctx context.Context, workspaceID string) ([]agent.Listener, error) {
	rec, err := c.record(ctx, workspaceID)
	if err != nil {
		return nil, err
	}
	if rec.Status != agent.StatusRunning {
		return nil, notRunning(rec.Name, rec.Status)
	}
	all, err := c.cfg.Previews.Listening(ctx, workspaceID)
	if agent.ErrorCode(err) == agent.CodeInternal && ctx.Err() == nil {
		return nil, fmt.Errorf("%w (%w)", agent.Errorf(agent.CodeUnavailable,
			"What listens in the workspace is not known at the moment. A port can be added by its number; ask again in a while."), err)
	}
	return slices.DeleteFunc(all, func(l agent.Listener) bool { return l.Port == agent.IDEPort }), err
}

// managedPorts are the ports of a workspace whose state allows to change them.
func (ch *change) managedPorts(id string) ([]agent.Port, error) {
	rec, err := ch.Workspace(id)
	if err != nil {
		return nil, err
	}
	if err := rec.Status.ManagesPorts(); err != nil {
		return nil, err
	}
	return ch.Ports(id)
}
