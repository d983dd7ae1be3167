package controlplane_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/sqlite"
	"github.com/rockpool/rootvm/agent/stub"
)

func TestControlPlane_Route(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ctx := t.Context()
		ws, off := p.created("demo-1"), p.created("off")
		if _, err := p.AddPort(ctx, ws.ID, agent.NewPort{Port: 3000}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.StopWorkspace(ctx, off.ID); err != nil {
			t.Fatal(err)
		}
		p.wait(off.ID, agent.StatusStopped)
		for _, tt := range []struct {
			name string
			port int
			want agent.Route
			code string
		}{
			{"demo-1", 0, agent.Route{Workspace: "demo-1", Upstream: ws.Address}, ""},
			{"demo-1", 3000, agent.Route{Workspace: "demo-1", Upstream: ws.Address, Port: 3000}, ""},
			{"demo-1", 3001, agent.Route{}, agent.CodeNotFound},
			{"demo-12", 0, agent.Route{}, agent.CodeNotFound},
			{"", 0, agent.Route{}, agent.CodeNotFound},
			{"off", 0, agent.Route{}, agent.CodeConflict},
			{"off", 3000, agent.Route{}, agent.CodeConflict},
		} {
			got, err := p.Route(ctx, tt.name, tt.port)
			if got != tt.want || agent.ErrorCode(err) != tt.code {
				t.Errorf("%q, port %d: %+v, %v, want %+v %s", tt.name, tt.port, got, err, tt.want, tt.code)
			}
		}

		// A change counts at once.
		if _, err := p.StopWorkspace(ctx, ws.ID); err != nil {
			t.Fatal(err)
		}
		_, err := p.Route(ctx, "demo-1", 0)
		wantError(t, err, agent.CodeConflict, `Workspace "demo-1" is not running (current: "stopping")`)
		p.wait(ws.ID, agent.StatusStopped)
		must(t, p.DeleteWorkspace(ctx, ws.ID))
		p.waitGone(ws.ID)
		_, err = p.Route(ctx, "demo-1", 0)
		wantError(t, err, agent.CodeNotFound, `Workspace "demo-1" not found`)
		again := p.created("demo-1")
		if r, err := p.Route(ctx, "demo-1", 0); err != nil || r.Upstream != again.Address {
			t.Errorf("route to the new one of that name: %+v, %v", r, err)
		}
	})
}

// routing is a control plane whose jobs do not run, with one workspace in
// every row, of which "target" runs and has port 3000.
func routing(tb testing.TB) *controlplane.ControlPlane {
	tb.Helper()
	db, err := sqlite.Open(tb.Context(), filepath.Join(tb.TempDir(), "a.db"))
	must(tb, err)
	tb.Cleanup(func() { _ = db.Close() })
	must(tb, db.Update(tb.Context(), func(tx agent.Tx) error {
		for i := range agent.MaxWorkspaces {
			name, status := fmt.Sprintf("ws-%d", i), agent.StatusStopped
			if i == 0 {
				name, status = "target", agent.StatusRunning
			}
			rec, err := tx.InsertWorkspace(agent.Workspace{
				ID: fmt.Sprintf("%025d", i), Name: name, Status: status, Address: "127.0.0.1:20000", CreatedAt: time.UnixMilli(int64(i + 1)),
			}, nil)
			if err != nil {
				return err
			}
			if err := tx.InsertPort(agent.Port{WorkspaceID: rec.ID, Port: 3000}); err != nil {
				return err
			}
		}
		return nil
	}))
	rt := stub.New(stub.Options{})
	c, err := controlplane.New(tb.Context(), controlplane.Config{Store: db, Runtime: rt, Files: rt, Inventory: rt, Observer: rt, Memory: rt, Storage: rt.Storage(), Images: rt, Terminator: rt, Health: rt, Previews: sockets{}, Review: lines{}, Log: discard})
	must(tb, err)
	return c
}

// sockets has a socket for each preview.
type sockets struct{ agent.Previews }

func (sockets) Preview(_ context.Context, id string, port int) (string, error) {
	return fmt.Sprintf("unix//previews/%s-%d", id, port), nil
}

// TestControlPlane_Route_preview: the way to an application is another than that
// to the IDE, and another for each workspace and port.
func TestControlPlane_Route_preview(t *testing.T) {
	c := routing(t)
	ide, err := c.Route(t.Context(), "target", 0)
	must(t, err)
	app, err := c.Route(t.Context(), "target", 3000)
	must(t, err)
	want := agent.Route{Workspace: "target", Port: 3000, Upstream: fmt.Sprintf("unix//previews/%025d-3000", 0)}
	if app != want || ide.Upstream != "127.0.0.1:20000" {
		t.Errorf("%+v, want %+v; the IDE: %+v", app, want, ide)
	}
}

func BenchmarkControlPlane_Route(b *testing.B) {
	c := routing(b)
	for name, r := range map[string]struct {
		name string
		port int
	}{
		"ide":     {"target", 0},
		"preview": {"target", 3000},
		"unknown": {"unknown", 0},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, _ = c.Route(b.Context(), r.name, r.port)
			}
		})
	}
}

func BenchmarkControlPlane_List(b *testing.B) {
	c := routing(b)
	for b.Loop() {
		var after agent.Cursor
		for n := 0; ; {
			page, next, err := c.ListWorkspaces(b.Context(), after, agent.MaxPageSize)
			must(b, err)
			n += len(page)
			if after = next; next == (agent.Cursor{}) {
				if n != agent.MaxWorkspaces {
					b.Fatal(n)
				}
				break
			}
		}
	}
}

// BenchmarkControlPlane_CreateToRunning is the agent's own part of a start:
// the stub takes no time.
func BenchmarkControlPlane_CreateToRunning(b *testing.B) {
	w := newWorld(b)
	db, err := sqlite.Open(b.Context(), w.path)
	must(b, err)
	c, err := controlplane.New(b.Context(), controlplane.Config{Store: db, Runtime: w.rt, Files: w.rt, Inventory: w.rt, Observer: w.rt, Memory: w.rt, Storage: w.rt.Storage(), Images: w.rt, Terminator: w.rt, Health: w.rt, Previews: w.rt, Review: lines{}, Log: discard})
	must(b, err)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(b.Context()) }()
	b.Cleanup(func() { _, _ = <-ended, db.Close() })
	follow, _ := c.Events(b.Context(), "", 0)
	n := 0
	for b.Loop() {
		n++
		ws, err := c.CreateWorkspace(b.Context(), agent.NewWorkspace{Name: fmt.Sprintf("ws-%d", n)})
		must(b, err)
		for e := range follow {
			if e.Workspace != nil && e.WorkspaceID == ws.ID && e.Workspace.Status == agent.StatusRunning {
				break
			}
		}
		b.StopTimer()
		_, err = c.StopWorkspace(b.Context(), ws.ID)
		must(b, err, c.DeleteWorkspace(b.Context(), ws.ID))
		for e := range follow {
			if e.Kind == agent.EventDeleted {
				break
			}
		}
		b.StartTimer()
	}
}

// forgetful tells which previews were released.
type forgetful struct {
	agent.Previews
	mu        sync.Mutex
	forgotten map[string]int
}

func (f *forgetful) Forget(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgotten[id]++
}

// taken returns whether a workspace's previews were released since the last
// question.
func (f *forgetful) taken(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.forgotten[id]
	delete(f.forgotten, id)
	return n > 0
}

// TestControlPlane_Previews_forgotten: what is kept for previews is released when
// a workspace's container ends, asked to or not, and when it is deleted; that of
// one that runs is kept.
func TestControlPlane_Previews_forgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		f := &forgetful{Previews: w.rt, forgotten: map[string]int{}}
		p := w.live(t, func(c *controlplane.Config) { c.Previews = f })
		ws, other := p.created("one"), p.created("other")
		_, _ = f.taken(ws.ID), f.taken(other.ID)

		_, err := p.AddPort(t.Context(), ws.ID, agent.NewPort{Port: 3000})
		must(t, err)
		if f.taken(ws.ID) {
			t.Error("released while it runs")
		}
		w.rt.Kill(ws.ID)
		synctest.Wait()
		p.wait(ws.ID, agent.StatusRunning)
		if !f.taken(ws.ID) {
			t.Error("kept after the container ended by itself")
		}

		p.stopped(ws.ID)
		if !f.taken(ws.ID) {
			t.Error("kept after the stop")
		}
		must(t, p.DeleteWorkspace(t.Context(), ws.ID))
		p.waitGone(ws.ID)
		if !f.taken(ws.ID) {
			t.Error("kept after the deletion")
		}
		if f.taken(other.ID) {
			t.Error("another's were released")
		}
	})
}
