package controlplane

import (
	"context"

	"github.com/rockpool/rootvm/agent"
)

// PushPreference is what a start does for one preference.
func (c *ControlPlane) PushPreference(ctx context.Context, workspaceID, name string) error {
	return c.courtesy(ctx, workspaceID, name, c.cfg.Log, c.pushPreference)
}

// TakePreference is what a stop does for one preference.
func (c *ControlPlane) TakePreference(ctx context.Context, workspaceID, name string) error {
	return c.courtesy(ctx, workspaceID, name, c.cfg.Log, c.takePreference)
}

// LastWriteWins puts back what releases before the three-way one did.
func (c *ControlPlane) LastWriteWins() { c.policy = lastWriteWins{} }

type lastWriteWins struct{}

func (lastWriteWins) push(stored, _, _ agent.File) verdict {
	if stored.Exists {
		return apply
	}
	return leave
}

func (lastWriteWins) take(stored, _, found agent.File) verdict {
	if found.Exists && found != stored {
		return apply
	}
	return leave
}
