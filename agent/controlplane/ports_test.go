package controlplane_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
)

// scanned are previews that may not find out what listens.
type scanned struct {
	agent.Previews
	fault error
}

func (s *scanned) Listening(ctx context.Context, id string) ([]agent.Listener, error) {
	if s.fault != nil {
		return nil, s.fault
	}
	return s.Previews.Listening(ctx, id)
}

// TestControlPlane_Listening: what listens is asked of the runtime, of what runs
// alone, and the IDE is not of interest.
func TestControlPlane_Listening(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := &scanned{Previews: w.rt}
		p := w.live(t, func(c *controlplane.Config) { c.Previews = s })
		ctx := t.Context()
		ws := p.created("demo-1")
		must(t, w.rt.Listen(ws.ID,
			agent.Listener{Port: 3000, Program: "node", Addresses: []string{"::1"}},
			agent.Listener{Port: 9000, Program: "python3", Addresses: []string{"0.0.0.0"}}))
		all, err := p.Listening(ctx, ws.ID)
		if err != nil || len(all) != 2 || all[0].Port != 3000 || all[1].Program != "python3" {
			t.Errorf("%+v, %v", all, err)
		}

		s.fault = errors.New("the relay is away")
		_, err = p.Listening(ctx, ws.ID)
		told, ok := errors.AsType[*agent.Error](err)
		if !ok || told.Code != agent.CodeUnavailable || !strings.Contains(told.Message, "is not known at the moment") || !errors.Is(err, s.fault) {
			t.Errorf("error: %v", err)
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

// TestControlPlane_Ports_ofIDE: the IDE's own port is no preview, also where a
// former agent registered it, and can be removed.
func TestControlPlane_Ports_ofIDE(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ctx := t.Context()
		ws := p.created("demo-1")
		_, err := p.AddPort(ctx, ws.ID, agent.NewPort{Port: agent.IDEPort})
		wantError(t, err, agent.CodeValidation, "port must be another: 8080 is the IDE's own")

		must(t, p.db.Update(ctx, func(tx agent.Tx) error {
			return tx.InsertPort(agent.Port{WorkspaceID: ws.ID, Port: agent.IDEPort})
		}))
		must(t, p.Reconcile(ctx))
		if to, err := p.Route(ctx, "demo-1", agent.IDEPort); agent.ErrorCode(err) != agent.CodeNotFound {
			t.Errorf("it leads to %+v, %v", to, err)
		}
		must(t, p.RemovePort(ctx, ws.ID, agent.IDEPort))
	})
}
