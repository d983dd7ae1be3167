package controlplane

import "context"

// tidyLoop has the runtime remove what nobody needs any more: after each look at
// the containers, and when workspaces came or went. It takes the time that it
// takes, beside everything else.
func (c *ControlPlane) tidyLoop(ctx context.Context) {
	if c.cfg.Tidier == nil {
		return
	}
	for sleep(ctx, c.cfg.ReconcileEvery, c.untidy) {
		if err := c.cfg.Tidier.Tidy(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("what no workspace needs any more is kept for now", "err", err)
		}
	}
}
