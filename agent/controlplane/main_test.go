package controlplane_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/sqlite"
	"github.com/rockpool/rootvm/agent/stub"
)

// plane is a control plane over a real database and the stub, whose jobs run.
type plane struct {
	*controlplane.ControlPlane
	t   *testing.T
	rt  *stub.Runtime
	db  *sqlite.DB
	log *logBuffer
	end func() // of its life, as systemctl restart does it
}

// hooks lets a test change what the runtime does while it runs.
type hooks struct {
	mu sync.Mutex
	f  stub.Hook
}

func (h *hooks) set(f stub.Hook) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.f = f
}

func (h *hooks) call(ctx context.Context, c stub.Call) error {
	h.mu.Lock()
	f := h.f
	h.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx, c)
}

// fail makes every call of one method fail.
func fail(op stub.Op, err error) stub.Hook {
	return func(_ context.Context, c stub.Call) error {
		if c.Op == op && !c.After {
			return err
		}
		return nil
	}
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// world is what outlives an agent: its database's file and the runtime.
type world struct {
	path  string
	rt    *stub.Runtime
	hooks *hooks
	log   *logBuffer
}

func newWorld(t testing.TB) *world {
	w := &world{path: filepath.Join(t.TempDir(), "rockpool.db"), hooks: &hooks{}, log: &logBuffer{}}
	w.rt = stub.New(stub.Options{Hook: w.hooks.call})
	return w
}

// lines is a review for which each line with a "!" can run a program.
type lines struct{}

func (lines) Programs(_, content string) (found []string) {
	for line := range strings.Lines(content) {
		if strings.Contains(line, "!") {
			found = append(found, line)
		}
	}
	return found
}

// live begins an agent's life in the world.
func (w *world) live(t *testing.T, options ...func(*controlplane.Config)) *plane {
	t.Helper()
	db, err := sqlite.Open(t.Context(), w.path)
	if err != nil {
		t.Fatal(err)
	}
	cfg := controlplane.Config{
		Store: db, Runtime: w.rt, Files: w.rt, Inventory: w.rt, Observer: w.rt, Memory: w.rt, Storage: w.rt.Storage(), Images: w.rt, Terminator: w.rt, Health: w.rt, Previews: w.rt, Review: lines{},
		Log: slog.New(slog.NewTextHandler(w.log, nil)),
	}
	for _, o := range options {
		o(&cfg)
	}
	c, err := controlplane.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	end := sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ended, db.Close()); err != nil {
			t.Errorf("end: %v", err)
		}
	})
	t.Cleanup(end)
	return &plane{ControlPlane: c, t: t, rt: w.rt, db: db, log: w.log, end: end}
}

// inBubble runs f with a clock that jumps to the next timer when everything
// waits.
func inBubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t)) })
}

// eventually waits, at most an hour of the bubble's time.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 36000 {
		if f() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func (p *plane) status(id string) agent.Status {
	p.t.Helper()
	w, err := p.Workspace(p.t.Context(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	return w.Status
}

// wait waits for a state.
func (p *plane) wait(id string, want agent.Status) agent.Workspace {
	p.t.Helper()
	eventually(p.t, id+" is "+string(want), func() bool { return p.status(id) == want })
	w, err := p.Workspace(p.t.Context(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	return w
}

func (p *plane) waitGone(id string) {
	p.t.Helper()
	eventually(p.t, id+" is gone", func() bool {
		_, err := p.Workspace(p.t.Context(), id)
		return agent.ErrorCode(err) == agent.CodeNotFound
	})
}

func (p *plane) create(n agent.NewWorkspace) agent.Workspace {
	p.t.Helper()
	w, err := p.CreateWorkspace(p.t.Context(), n)
	if err != nil {
		p.t.Fatal(err)
	}
	return w
}

// created makes a workspace and waits until it runs.
func (p *plane) created(name string) agent.Workspace {
	p.t.Helper()
	return p.wait(p.create(agent.NewWorkspace{Name: name}).ID, agent.StatusRunning)
}

// restart stops a workspace and starts it again.
func (p *plane) restart(id string) {
	p.t.Helper()
	if _, err := p.StopWorkspace(p.t.Context(), id); err != nil {
		p.t.Fatal(err)
	}
	p.wait(id, agent.StatusStopped)
	if _, err := p.StartWorkspace(p.t.Context(), id); err != nil {
		p.t.Fatal(err)
	}
	p.wait(id, agent.StatusRunning)
}

func (p *plane) state() controlplane.State {
	p.t.Helper()
	s, err := p.State(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

func (p *plane) file(id, path string) string {
	p.t.Helper()
	b, err := p.rt.ReadFile(p.t.Context(), id, path)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, code, text string) {
	t.Helper()
	if agent.ErrorCode(err) != code || err.Error() != text {
		t.Errorf("error: %v (%s), want %s (%s)", err, agent.ErrorCode(err), text, code)
	}
}

func stepNames(steps []agent.Step) string {
	var names []string
	for _, s := range steps {
		names = append(names, s.Name+":"+string(s.State))
	}
	return strings.Join(names, " ")
}

var discard = slog.New(slog.DiscardHandler)

// assertNowhere looks for a secret in the database and its companions.
func assertNowhere(t *testing.T, database, secret string) {
	t.Helper()
	files, err := filepath.Glob(database + "*")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("there is no database")
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(t, err)
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("%s has the secret", f)
		}
	}
}
