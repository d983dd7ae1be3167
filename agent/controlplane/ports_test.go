package controlplane_test

import (
	"testing"

	"github.com/rockpool/rootvm/agent"
)

// TestControlPlane_Listening: what listens is asked of the runtime, of what runs
// alone, and the IDE is not of interest.
func TestControlPlane_Listening(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ctx := t.Context()
		ws := p.created("demo-1")
		must(t, w.rt.Listen(ws.ID,
			agent.Listener{Port: 3000, Program: "node", Addresses: []string{"::1"}},
			agent.Listener{Port: 9000, Program: "python3", Addresses: []string{"0.0.0.0"}}))
		all, err := p.Listening(ctx, ws.ID)
		if err != nil || len(all) != 2 || all[0].Port != 3000 || all[1].Program != "python3" {
			t.Errorf("%+v, %v", all, err)
		}

		if _, err := p.StopWorkspace(ctx, ws.ID); err != nil {
			t.Fatal(err)
		}
		p.wait(ws.ID, agent.StatusStopped)
		_, err = p.Listening(ctx, ws.ID)
		wantError(t, err, agent.CodeConflict, `Workspace "demo-1" is not running (current: "stopped")`)
		_, err = p.Listening(ctx, "0000000000000000000000000")
		if agent.ErrorCode(err) != agent.CodeNotFound {
			t.Errorf("of a workspace that is not there: %v", err)
		}
	})
}
