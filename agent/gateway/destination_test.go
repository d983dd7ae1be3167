package gateway_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/gateway"
	"github.com/rockpool/rootvm/agent/review"
	"github.com/rockpool/rootvm/agent/sqlite"
	"github.com/rockpool/rootvm/agent/stub"
)

// over is a gateway to a control plane whose jobs do not run, with workspaces
// that are made from rows.
func over(tb testing.TB, insert func(agent.Tx) error) *gateway.Gateway {
	tb.Helper()
	db, err := sqlite.Open(tb.Context(), filepath.Join(tb.TempDir(), "a.db"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	if err := db.Update(tb.Context(), insert); err != nil {
		tb.Fatal(err)
	}
	rt := stub.New(stub.Options{})
	c, err := controlplane.New(context.WithoutCancel(tb.Context()), controlplane.Config{Store: db, Runtime: rt, Files: rt, Inventory: rt, Observer: rt, Memory: rt, Storage: rt.Storage(), Images: rt, Terminator: rt, Health: rt, Previews: sockets{}, Review: review.Review{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	return &gateway.Gateway{Routes: c, Workspaces: c}
}

// sockets has a socket for each preview.
type sockets struct{ agent.Previews }

func (sockets) Preview(_ context.Context, id string, port int) (string, error) {
	return fmt.Sprintf("unix//previews/%s-%d", id, port), nil
}

// row inserts a workspace with port 3000.
func row(tx agent.Tx, n int, name string, status agent.Status) error {
	rec, err := tx.InsertWorkspace(agent.Workspace{
		ID: fmt.Sprintf("%025d", n), Name: name, Status: status, Address: "127.0.0.1:20000", CreatedAt: time.UnixMilli(int64(n + 1)),
	}, nil)
	if err != nil {
		return err
	}
	return tx.InsertPort(agent.Port{WorkspaceID: rec.ID, Port: 3000})
}

func TestGateway_Destination(t *testing.T) {
	g := over(t, func(tx agent.Tx) error {
		if err := row(tx, 1, "demo-1", agent.StatusRunning); err != nil {
			return err
		}
		return row(tx, 2, "off", agent.StatusStopped)
	})
	ide := gateway.Destination{Route: agent.Route{Workspace: "demo-1", Upstream: "127.0.0.1:20000"}}
	app := gateway.Destination{Route: agent.Route{Workspace: "demo-1", Upstream: "unix//previews/" + fmt.Sprintf("%025d", 1) + "-3000", Port: 3000}}
	for _, tt := range []struct {
		path    string
		preview bool
		want    gateway.Destination
		code    string
	}{
		{"/workspace/demo-1/", false, ide, ""},
		{"/workspace/demo-1/stable-1/static/out/vs/a%20b.js", false, ide, ""},
		{"/workspace/demo-1/a%2Fb/%C3%A4", false, ide, ""},
		{"/workspace/demo-1/..a/b..", false, ide, ""},
		{"/workspace/demo-1", false, gateway.Destination{Route: agent.Route{Workspace: "demo-1"}, Redirect: "/workspace/demo-1/"}, ""},
		{"/workspace/demo-1/port/3000/x", false, ide, ""}, // there it is the IDE's path
		{"/workspace/demo-1/port/3000/", true, app, ""},
		{"/workspace/demo-1/port/3000/@vite/client", true, app, ""},
		{"/workspace/demo-1/port/3000", true, gateway.Destination{Route: agent.Route{Workspace: "demo-1", Port: 3000}, Redirect: "/workspace/demo-1/port/3000/"}, ""},
		{"/workspace/demo-1/port/3000//a//b%2F%2Fc//", true, app, ""},
		{"/workspace/demo-1/port/3000/https://example.org/", true, app, ""},
		{"/workspace//demo-1/port/3000/", true, gateway.Destination{}, agent.CodeNotFound},
		{"/workspace/demo-1//port/3000/", true, gateway.Destination{}, agent.CodeNotFound},
		{"/workspace/demo-1/port//3000/", true, gateway.Destination{}, agent.CodeNotFound},
		{"//workspace/demo-1/port/3000/", true, gateway.Destination{}, agent.CodeNotFound},
		{"/workspace/demo-1/port/3000//../3001/", true, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/demo-1/port/3001/", true, gateway.Destination{}, agent.CodeNotFound},
		{"/workspace/demo-1/port/03000/", true, gateway.Destination{}, agent.CodeNotFound},
		{"/workspace/demo-1/port/99999/", true, gateway.Destination{}, agent.CodeNotFound},
		{"/workspace/demo-1/port/1023/", true, gateway.Destination{}, agent.CodeNotFound},
		{"/workspace/demo-1/", true, gateway.Destination{}, agent.CodeNotFound},
		{"/workspace/demo-12/", false, gateway.Destination{}, agent.CodeNotFound},
		{"/workspace/Demo-1/", false, gateway.Destination{}, agent.CodeNotFound},
		{"/workspace/", false, gateway.Destination{}, agent.CodeNotFound},
		{"/", false, gateway.Destination{}, agent.CodeNotFound},
		{"/workspace/off/", false, gateway.Destination{}, agent.CodeConflict},
		{"/workspace/off", false, gateway.Destination{}, agent.CodeConflict},
		{"", false, gateway.Destination{}, agent.CodeValidation},
		{"workspace/demo-1/", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/demo%2d1/", false, gateway.Destination{}, agent.CodeValidation},
		{"/work%73pace/demo-1/", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace//demo-1/", false, gateway.Destination{}, agent.CodeValidation},
		{"//workspace/demo-1/", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/demo-1//", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/off/../demo-1/", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/off/%2e%2E/demo-1/", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/off/.%2e/demo-1/", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/off/a%2f..%2f..%2fdemo-1/", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/off/..%5cdemo-1/", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/demo-1/.", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/demo-1/a%00", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/demo-1/a%0d%0aX-A:b", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/demo-1/%zz", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/demo-1/a?b", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/demo-1/a b", false, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/demo-1/port/3000/../3001/", true, gateway.Destination{}, agent.CodeValidation},
		{"/workspace/demo-1/port/%33000/", true, gateway.Destination{}, agent.CodeNotFound},
		{"/workspace/demo-1/" + strings.Repeat("a", 20000), false, gateway.Destination{}, agent.CodeValidation},
	} {
		got, err := g.Destination(t.Context(), tt.preview, tt.path)
		if got != tt.want || agent.ErrorCode(err) != tt.code {
			t.Errorf("%.80q (preview %v): %+v, %v, want %+v %s", tt.path, tt.preview, got, err, tt.want, tt.code)
		}
	}
}

// routing is a gateway to one workspace in every row, of which "target" runs.
func routing(tb testing.TB) *gateway.Gateway {
	tb.Helper()
	return over(tb, func(tx agent.Tx) error {
		for i := range agent.MaxWorkspaces {
			name, status := fmt.Sprintf("ws-%d", i), agent.StatusStopped
			if i == 0 {
				name, status = "target", agent.StatusRunning
			}
			if err := row(tx, i, name, status); err != nil {
				return err
			}
		}
		return nil
	})
}

// FuzzGateway_Destination: whatever is let through reads the same to a program
// that decodes and cleans the path first, as Caddy does.
func FuzzGateway_Destination(f *testing.F) {
	for _, s := range []string{"/workspace/target/", "/workspace/target/port/3000/x", "/workspace/target/%2e%2e/x", "/workspace/ws-1/..%2ftarget/", "/workspace/target", "//", "/workspace/t%61rget/"} {
		f.Add(s, false)
		f.Add(s, true)
	}
	g := routing(f)
	f.Fuzz(func(t *testing.T, s string, preview bool) {
		r, err := g.Destination(t.Context(), preview, s)
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

func BenchmarkGateway_Destination(b *testing.B) {
	g := routing(b)
	for name, r := range map[string]struct {
		preview bool
		path    string
	}{
		"ide":     {false, "/workspace/target/stable-0123456789/static/out/vs/code/browser/workbench/workbench.js"},
		"preview": {true, "/workspace/target/port/3000/src/main.ts"},
		"unknown": {false, "/workspace/unknown/"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, _ = g.Destination(b.Context(), r.preview, r.path)
			}
		})
	}
}
