package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/stub"
)

// stubborn are containers that take no notice of being asked to end: the runtime
// forces them when their time is over, as Podman does.
type stubborn struct{ *stub.Runtime }

func (s stubborn) Stop(ctx context.Context, id string, grace time.Duration) error {
	status, err := s.Status(ctx, id)
	if err != nil || status != agent.ContainerRunning {
		return err
	}
	select {
	case <-time.After(grace):
		return s.Runtime.Stop(ctx, id, 0)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// TestControlPlane_Shutdown/many: sixty workspaces that take no notice are
// stopped in the time that one has, not in that of eight rounds, and preferences
// that cannot be read do not take it up.
func TestControlPlane_Shutdown_many(t *testing.T) {
	for name, slow := range map[string]bool{"": false, "with preferences that hang": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := w.live(t, func(c *controlplane.Config) { c.Runtime = stubborn{w.rt} })
				var all []agent.Workspace
				for n := range 60 {
					all = append(all, p.create(agent.NewWorkspace{Name: fmt.Sprintf("busy-%d", n), AutoSyncPrefs: true}))
				}
				for _, ws := range all {
					p.wait(ws.ID, agent.StatusRunning)
				}
				w.hooks.set(func(ctx context.Context, c stub.Call) error {
					if slow && c.Op == stub.OpReadFile {
						<-ctx.Done()
					}
					return ctx.Err()
				})

				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
				defer cancel()
				must(t, p.Shutdown(ctx))
				limit := 12 * time.Second
				if slow {
					limit += 40 * time.Second / 3
				}
				if took := time.Since(begin); took > limit {
					t.Errorf("it took %s", took)
				}
				for _, ws := range all {
					if status, _ := p.rt.Status(t.Context(), ws.ID); status != agent.ContainerStopped {
						t.Errorf("%s: %s", ws.Name, status)
					}
				}
			})
		})
	}
}

// TestControlPlane_Shutdown/unasked: a container that could not be asked to end
// has its whole time for it when it is stopped, however long the asking took.
func TestControlPlane_Shutdown_unasked(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		given := make(chan time.Duration, 1)
		p := w.live(t, func(c *controlplane.Config) { c.Runtime = graces{w.rt, given} })
		ws := p.create(agent.NewWorkspace{Name: "deaf"})
		p.wait(ws.ID, agent.StatusRunning)
		w.hooks.set(func(ctx context.Context, c stub.Call) error {
			if c.Op != stub.OpTerminate {
				return nil
			}
			time.Sleep(15 * time.Second)
			return errors.New("no answer")
		})

		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		must(t, p.Shutdown(ctx))
		if grace, want := <-given, 10*time.Second; grace != want {
			t.Errorf("it had %s to end, want %s", grace, want)
		}
	})
}

// graces tells how long the last container had to end.
type graces struct {
	*stub.Runtime
	given chan time.Duration
}

func (g graces) Stop(ctx context.Context, id string, grace time.Duration) error {
	select {
	case g.given <- grace:
	default:
	}
	return g.Runtime.Stop(ctx, id, grace)
}
