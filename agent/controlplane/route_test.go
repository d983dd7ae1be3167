package controlplane_test

import (
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"testing"
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
		ide := agent.Route{Workspace: "demo-1", Upstream: ws.Address}
		app := agent.Route{Workspace: "demo-1", Upstream: ws.Address, Port: 3000}
		for _, tt := range []struct {
			path    string
			preview bool
			want    agent.Route
			code    string
		}{
			{"/workspace/demo-1/", false, ide, ""},
			{"/workspace/demo-1/stable-1/static/out/vs/a%20b.js", false, ide, ""},
			{"/workspace/demo-1/a%2Fb/%C3%A4", false, ide, ""},
			{"/workspace/demo-1/..a/b..", false, ide, ""},
			{"/workspace/demo-1", false, agent.Route{Workspace: "demo-1", Redirect: "/workspace/demo-1/"}, ""},
			{"/workspace/demo-1/port/3000/x", false, ide, ""}, // there it is the IDE's path
			{"/workspace/demo-1/port/3000/", true, app, ""},
			{"/workspace/demo-1/port/3000/@vite/client", true, app, ""},
			{"/workspace/demo-1/port/3000", true, agent.Route{Workspace: "demo-1", Port: 3000, Redirect: "/workspace/demo-1/port/3000/"}, ""},
			{"/workspace/demo-1/port/3001/", true, agent.Route{}, agent.CodeNotFound},
			{"/workspace/demo-1/port/03000/", true, agent.Route{}, agent.CodeNotFound},
			{"/workspace/demo-1/port/99999/", true, agent.Route{}, agent.CodeNotFound},
			{"/workspace/demo-1/port/1023/", true, agent.Route{}, agent.CodeNotFound},
			{"/workspace/demo-1/", true, agent.Route{}, agent.CodeNotFound},
			{"/workspace/demo-12/", false, agent.Route{}, agent.CodeNotFound},
			{"/workspace/Demo-1/", false, agent.Route{}, agent.CodeNotFound},
			{"/workspace/", false, agent.Route{}, agent.CodeNotFound},
			{"/", false, agent.Route{}, agent.CodeNotFound},
			{"/workspace/off/", false, agent.Route{}, agent.CodeConflict},
			{"/workspace/off", false, agent.Route{}, agent.CodeConflict},
			{"", false, agent.Route{}, agent.CodeValidation},
			{"workspace/demo-1/", false, agent.Route{}, agent.CodeValidation},
			{"/workspace/demo%2d1/", false, agent.Route{}, agent.CodeValidation},
			{"/work%73pace/demo-1/", false, agent.Route{}, agent.CodeValidation},
			{"/workspace//demo-1/", false, agent.Route{}, agent.CodeValidation},
			{"//workspace/demo-1/", false, agent.Route{}, agent.CodeValidation},
			{"/workspace/demo-1//", false, agent.Route{}, agent.CodeValidation},
			{"/workspace/off/../demo-1/", false, agent.Route{}, agent.CodeValidation},
			{"/workspace/off/%2e%2E/demo-1/", false, agent.Route{}, agent.CodeValidation},
			{"/workspace/off/.%2e/demo-1/", false, agent.Route{}, agent.CodeValidation},
			{"/workspace/off/a%2f..%2f..%2fdemo-1/", false, agent.Route{}, agent.CodeValidation},
			{"/workspace/off/..%5cdemo-1/", false, agent.Route{}, agent.CodeValidation},
			{"/workspace/demo-1/.", false, agent.Route{}, agent.CodeValidation},
			{"/workspace/demo-1/a%00", false, agent.Route{}, agent.CodeValidation},
			{"/workspace/demo-1/a%0d%0aX-A:b", false, agent.Route{}, agent.CodeValidation},
			{"/workspace/demo-1/%zz", false, agent.Route{}, agent.CodeValidation},
			{"/workspace/demo-1/a?b", false, agent.Route{}, agent.CodeValidation},
			{"/workspace/demo-1/a b", false, agent.Route{}, agent.CodeValidation},
			{"/workspace/demo-1/port/3000/../3001/", true, agent.Route{}, agent.CodeValidation},
			{"/workspace/demo-1/port/%33000/", true, agent.Route{}, agent.CodeNotFound},
			{"/workspace/demo-1/" + strings.Repeat("a", 20000), false, agent.Route{}, agent.CodeValidation},
		} {
			got, err := p.Route(ctx, agent.RouteRequest{Preview: tt.preview, Path: tt.path})
			if got != tt.want || agent.ErrorCode(err) != tt.code {
				t.Errorf("%.80q (preview %v): %+v, %v, want %+v %s", tt.path, tt.preview, got, err, tt.want, tt.code)
			}
		}

		// A change counts at once.
		if _, err := p.StopWorkspace(ctx, ws.ID); err != nil {
			t.Fatal(err)
		}
		_, err := p.Route(ctx, agent.RouteRequest{Path: "/workspace/demo-1/"})
		wantError(t, err, agent.CodeConflict, `Workspace "demo-1" is not running (current: "stopping")`)
		p.wait(ws.ID, agent.StatusStopped)
		must(t, p.DeleteWorkspace(ctx, ws.ID))
		p.waitGone(ws.ID)
		_, err = p.Route(ctx, agent.RouteRequest{Path: "/workspace/demo-1/"})
		wantError(t, err, agent.CodeNotFound, `Workspace "demo-1" not found`)
		again := p.created("demo-1")
		if r, err := p.Route(ctx, agent.RouteRequest{Path: "/workspace/demo-1/"}); err != nil || r.Upstream != again.Address {
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
	c, err := controlplane.New(tb.Context(), controlplane.Config{Store: db, Runtime: rt, Inventory: rt, Observer: rt, Health: rt, Log: discard})
	must(tb, err)
	return c
}

// FuzzControlPlane_Route: whatever is let through reads the same to a program
// that decodes and cleans the path first, as Caddy does.
func FuzzControlPlane_Route(f *testing.F) {
	for _, s := range []string{"/workspace/target/", "/workspace/target/port/3000/x", "/workspace/target/%2e%2e/x", "/workspace/ws-1/..%2ftarget/", "/workspace/target", "//", "/workspace/t%61rget/"} {
		f.Add(s, false)
		f.Add(s, true)
	}
	c := routing(f)
	f.Fuzz(func(t *testing.T, s string, preview bool) {
		r, err := c.Route(t.Context(), agent.RouteRequest{Preview: preview, Path: s})
		if err != nil {
			if code := agent.ErrorCode(err); code != agent.CodeNotFound && code != agent.CodeConflict && code != agent.CodeValidation {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		plain, err := url.PathUnescape(s)
		if err != nil {
			t.Fatalf("%q was let through: %v", s, err)
		}
		prefix := "/workspace/target"
		if preview {
			prefix += "/port/3000"
		}
		if clean := path.Clean(plain); clean != prefix && !strings.HasPrefix(clean, prefix+"/") {
			t.Fatalf("%q is %q to others, but was sent to %+v", s, clean, r)
		}
		if (r.Redirect == "") == (r.Upstream == "") || r.Redirect != "" && r.Redirect != prefix+"/" {
			t.Fatalf("%q: %+v", s, r)
		}
	})
}

func BenchmarkControlPlane_Route(b *testing.B) {
	c := routing(b)
	for name, r := range map[string]agent.RouteRequest{
		"ide":     {Path: "/workspace/target/stable-0123456789/static/out/vs/code/browser/workbench/workbench.js"},
		"preview": {Preview: true, Path: "/workspace/target/port/3000/src/main.ts"},
		"unknown": {Path: "/workspace/unknown/"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, _ = c.Route(b.Context(), r)
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
	c, err := controlplane.New(b.Context(), controlplane.Config{Store: db, Runtime: w.rt, Inventory: w.rt, Observer: w.rt, Health: w.rt, Log: discard})
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
