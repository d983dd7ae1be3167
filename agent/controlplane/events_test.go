package controlplane_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rockpool/rootvm/agent"
)

func TestControlPlane_Events(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ctx, cancel := context.WithCancel(t.Context())
		follow, reset := p.Events(ctx, "", 0)
		if !reset {
			t.Error("a new reader must read everything first")
		}
		ws := p.created("demo")
		if _, err := p.AddPort(t.Context(), ws.ID, agent.NewPort{Port: 3000}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.StopWorkspace(t.Context(), ws.ID); err != nil {
			t.Fatal(err)
		}
		p.wait(ws.ID, agent.StatusStopped)
		must(t, p.DeleteWorkspace(t.Context(), ws.ID))
		p.waitGone(ws.ID)
		synctest.Wait()
		cancel()
		var seen []agent.Event
		var kinds []string
		for e := range follow { // it is closed now
			seen = append(seen, e)
			if e.Seq != uint64(len(seen)) || e.Epoch == "" || e.WorkspaceID != ws.ID || e.At.IsZero() {
				t.Errorf("event: %+v", e)
			}
			switch {
			case e.Kind == agent.EventWorkspace:
				kinds = append(kinds, string(e.Workspace.Status))
			case e.Kind != agent.EventStep:
				kinds = append(kinds, string(e.Kind))
			case e.Step.State == agent.StepDone:
				kinds = append(kinds, e.Step.Name)
			}
		}
		want := "creating container creating start configure health preferences commit running port stopping stop commit port stopped deleted"
		if got := strings.Join(kinds, " "); got != want {
			t.Errorf("events: %s\nwant:   %s", got, want)
		}

		middle := seen[len(seen)/2]
		again, reset := p.Events(t.Context(), middle.Epoch, middle.Seq)
		if reset {
			t.Error("a reader that returns must not begin anew")
		}
		for _, want := range seen[len(seen)/2+1:] {
			if got := <-again; got.Seq != want.Seq || got.Kind != want.Kind {
				t.Errorf("event: %+v, want %+v", got, want)
			}
		}
		for _, place := range []struct {
			epoch string
			seq   uint64
		}{{"other", 1}, {middle.Epoch, uint64(len(seen)) + 1}} {
			fresh, reset := p.Events(t.Context(), place.epoch, place.seq)
			if !reset || len(fresh) != 0 {
				t.Errorf("%+v: reset %v, %d events", place, reset, len(fresh))
			}
		}
	})
}

func TestControlPlane_Events_slowReader(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.created("demo")
		slow, _ := p.Events(t.Context(), "", 0)
		for range 700 { // two events each: more than are remembered
			_, err := p.AddPort(t.Context(), ws.ID, agent.NewPort{Port: 3000})
			must(t, err, p.RemovePort(t.Context(), ws.ID, 3000))
		}
		n := 0
		var last agent.Event
		for e := range slow {
			n, last = n+1, e
		}
		if n == 0 || n >= 1400 {
			t.Errorf("a slow reader got %d events and the end", n)
		}
		if _, reset := p.Events(t.Context(), last.Epoch, last.Seq); !reset {
			t.Error("what is forgotten was promised")
		}
		recent, reset := p.Events(t.Context(), last.Epoch, last.Seq+uint64(1400-n)-1000)
		if reset || len(recent) != 1000 {
			t.Errorf("reset %v, %d events, want 1000", reset, len(recent))
		}
		for i, before := 0, uint64(0); i < 1000; i++ {
			e := <-recent
			if before != 0 && e.Seq != before+1 {
				t.Fatalf("event %d after %d", e.Seq, before)
			}
			before = e.Seq
		}
	})
}
