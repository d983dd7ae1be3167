package controlplane_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/stub"
)

// tidier counts how often it was asked, and cannot do it.
type tidier struct{ asked int }

func (d *tidier) Tidy(context.Context) error {
	d.asked++
	return errors.New("busy")
}

// TestTidy: the runtime is asked to tidy up when the agent begins, when a
// workspace has come and when it has gone, and time and again.
func TestTidy(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var d tidier
		p := w.live(t, func(c *controlplane.Config) { c.Tidier = &d })
		asked := func(what string, do func()) {
			t.Helper()
			before := d.asked
			do()
			synctest.Wait()
			if d.asked <= before {
				t.Errorf("%s: it was not asked", what)
			}
		}
		var ws agent.Workspace
		asked("a workspace has come", func() { ws = p.created("one") })
		asked("a workspace has gone", func() {
			if _, err := p.StopWorkspace(t.Context(), ws.ID); err != nil {
				t.Fatal(err)
			}
			p.wait(ws.ID, agent.StatusStopped)
			if err := p.DeleteWorkspace(t.Context(), ws.ID); err != nil {
				t.Fatal(err)
			}
			p.waitGone(ws.ID)
		})
		asked("time has passed", func() { time.Sleep(time.Hour) })
	})
}

// TestProgress: what the runtime tells while it makes a container is the step's
// message, until the step ends.
func TestProgress(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		told, goOn := make(chan struct{}), make(chan struct{})
		w.hooks.set(func(ctx context.Context, c stub.Call) error {
			if c.Op == stub.OpCreate && !c.After {
				agent.Progress(ctx)("1 of 2 GB are taken over.")
				agent.Progress(ctx)("This comes too soon.")
				close(told)
				<-goOn
			}
			return nil
		})
		ws, err := p.CreateWorkspace(t.Context(), agent.NewWorkspace{Name: "one"})
		if err != nil {
			t.Fatal(err)
		}
		<-told
		steps, err := p.Steps(t.Context(), ws.ID)
		if err != nil || len(steps) != 1 || steps[0].State != agent.StepRunning || steps[0].Message != "1 of 2 GB are taken over." {
			t.Errorf("while it is made: %+v, %v", steps, err)
		}
		close(goOn)
		p.wait(ws.ID, agent.StatusRunning)
		steps, err = p.Steps(t.Context(), ws.ID)
		if err != nil || len(steps) == 0 || steps[0].State != agent.StepDone || steps[0].Message != "" {
			t.Errorf("when it runs: %+v, %v", steps, err)
		}
	})
}
