package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/sqlite"
	"github.com/rockpool/rootvm/agent/stub"
)

// The test binary is its own victim: started with these set it lives one life
// of an agent in a directory and kills itself at the named point.
const (
	envDir   = "ROCKPOOL_TEST_KILL_DIR"
	envJob   = "ROCKPOOL_TEST_KILL_JOB"
	envPoint = "ROCKPOOL_TEST_KILL_POINT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envDir); dir != "" {
		if err := victim(dir, agent.JobKind(os.Getenv(envJob)), os.Getenv(envPoint)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0) // it was never killed
	}
	os.Exit(m.Run())
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // it takes a moment
}

// grave is a directory in which agents die: a database, and the runtime's
// state as it is outside of the agent.
type grave struct{ dir string }

func (g grave) database() string { return filepath.Join(g.dir, "rockpool.db") }
func (g grave) runtime() string  { return filepath.Join(g.dir, "runtime.json") }

// open restores the runtime. Each effect is written down before the answer is
// given, as it is with real containers.
func (g grave) open(point string) (*stub.Runtime, error) {
	var rt *stub.Runtime
	var saving sync.Mutex // one after the other, so that no older state replaces a newer one
	rt = stub.New(stub.Options{Hook: func(_ context.Context, c stub.Call) error {
		if !c.After && point == string(c.Op)+":before" {
			die()
		}
		if c.After && slices.Contains(changing, c.Op) {
			saving.Lock()
			err := g.save(rt)
			saving.Unlock()
			if err != nil {
				return err
			}
		}
		if c.After && point == string(c.Op)+":after" {
			die()
		}
		return nil
	}})
	b, err := os.ReadFile(g.runtime())
	if errors.Is(err, os.ErrNotExist) {
		return rt, nil
	}
	if err != nil {
		return nil, err
	}
	return rt, rt.Restore(b)
}

// changing are the methods that have an effect.
var changing = []stub.Op{stub.OpCreate, stub.OpStart, stub.OpStop, stub.OpRemove, stub.OpConfigure, stub.OpClone, stub.OpWriteFile}

func (g grave) save(rt *stub.Runtime) error {
	b, err := rt.Snapshot()
	if err != nil {
		return err
	}
	tmp := fmt.Sprintf("%s.%d", g.runtime(), os.Getpid())
	return errors.Join(os.WriteFile(tmp, b, 0o600), os.Rename(tmp, g.runtime()))
}

// mortalStore dies around the transaction that ends a job, or that begins it.
type mortalStore struct {
	agent.Store
	point string
}

func (s mortalStore) Update(ctx context.Context, f func(agent.Tx) error) error {
	what := ""
	err := s.Store.Update(ctx, func(tx agent.Tx) error {
		watch := &watchedTx{Tx: tx}
		err := f(watch)
		if what = watch.what; err == nil && what != "" && s.point == what+":before" {
			die()
		}
		return err
	})
	if err == nil && what != "" && s.point == what+":after" {
		die()
	}
	return err
}

// watchedTx notes whether a transaction begins or ends a job.
type watchedTx struct {
	agent.Tx
	what string
}

func (t *watchedTx) InsertJob(j agent.Job) error { t.what = "enqueue"; return t.Tx.InsertJob(j) }
func (t *watchedTx) DeleteJob(id string) error   { t.what = "commit"; return t.Tx.DeleteJob(id) }
func (t *watchedTx) DeleteWorkspace(id string) error {
	t.what = "commit"
	return t.Tx.DeleteWorkspace(id)
}

// live begins a life in the grave. With a point it is a short one.
func (g grave) live(point string) (*controlplane.ControlPlane, func() error, error) {
	rt, err := g.open(point)
	if err != nil {
		return nil, nil, err
	}
	db, err := sqlite.Open(context.Background(), g.database())
	if err != nil {
		return nil, nil, err
	}
	c, err := controlplane.New(context.Background(), controlplane.Config{
		Store: mortalStore{db, point}, Runtime: rt, Files: rt, Inventory: rt, Observer: rt, Memory: rt, Storage: rt.Storage(), Images: rt, Terminator: rt, Health: rt, Previews: rt, Review: lines{}, Log: slog.New(slog.DiscardHandler),
		Backoff: time.Millisecond, HealthInterval: time.Millisecond, ReconcileEvery: 20 * time.Millisecond,
	})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return c, func() error { cancel(); return errors.Join(<-ended, db.Close()) }, nil
}

// victim asks for a job and waits until it is done, unless it dies first.
func victim(dir string, kind agent.JobKind, point string) error {
	c, end, err := grave{dir}.live(point)
	if err != nil {
		return err
	}
	if err := ask(c, kind); err != nil {
		return err
	}
	return errors.Join(until(func() bool { return finished(c, kind) == "" }), end())
}

const killedName = "killed"

// ask begins a job by the use case that does.
func ask(c *controlplane.ControlPlane, kind agent.JobKind) error {
	ctx := context.Background()
	if kind == agent.JobCreate {
		_, err := c.CreateWorkspace(ctx, agent.NewWorkspace{Name: killedName, RepositoryID: "owner/repo", AutoSyncPrefs: true})
		return err
	}
	w, err := c.WorkspaceByName(ctx, killedName)
	if err != nil {
		return err
	}
	switch kind {
	case agent.JobStart:
		_, err = c.StartWorkspace(ctx, w.ID)
	case agent.JobStop:
		_, err = c.StopWorkspace(ctx, w.ID)
	case agent.JobDelete:
		err = c.DeleteWorkspace(ctx, w.ID)
	}
	return err
}

// finished says what is still missing from the state that a job is for.
func finished(c *controlplane.ControlPlane, kind agent.JobKind) string {
	ctx := context.Background()
	s, err := c.State(ctx)
	if err != nil || len(s.Jobs) != 0 || len(s.Orphans) != 0 {
		return fmt.Sprintf("state: %+v, %v", s, err)
	}
	w, err := c.WorkspaceByName(ctx, killedName)
	if kind == agent.JobDelete {
		if agent.ErrorCode(err) != agent.CodeNotFound {
			return fmt.Sprintf("still there: %+v, %v", w, err)
		}
		return ""
	}
	want, address := agent.StatusRunning, "127.0.0.1:20000"
	if kind == agent.JobStop {
		want, address = agent.StatusStopped, ""
	}
	if err != nil || w.Status != want || w.Address != address || w.ErrorMessage != "" {
		return fmt.Sprintf("workspace: %+v, %v", w, err)
	}
	return ""
}

func until(f func() bool) error {
	limit := time.After(time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-limit:
			return errors.New("it took too long")
		case <-tick.C:
		}
	}
	return nil
}

// prepare brings a new grave to where a kind of job can begin.
func prepare(t *testing.T, kind agent.JobKind) grave {
	t.Helper()
	g := grave{t.TempDir()}
	switch kind {
	case agent.JobStart: // the next one is stored once it has been pushed
		g.storePreference(t, "older")
	case agent.JobStop:
	default:
		g.storePreference(t, "mine")
	}
	c, end, err := g.live("")
	must(t, err)
	before := map[agent.JobKind][]agent.JobKind{
		agent.JobStart:  {agent.JobCreate, agent.JobStop},
		agent.JobStop:   {agent.JobCreate},
		agent.JobDelete: {agent.JobCreate, agent.JobStop},
	}[kind]
	for _, k := range before {
		must(t, ask(c, k), until(func() bool { return finished(c, k) == "" }))
	}
	must(t, end())
	switch kind {
	case agent.JobStart:
		g.storePreference(t, "mine")
	case agent.JobStop:
		g.personalise(t)
	}
	return g
}

// storePreference stores one that starting has to push.
func (g grave) storePreference(t *testing.T, blob string) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), g.database())
	must(t, err)
	must(t, db.Update(t.Context(), func(tx agent.Tx) error {
		return tx.PutPreference(agent.Preference{Name: agent.PreferenceGit, Blob: blob, UpdatedAt: time.Now()})
	}), db.Close())
}

// personalise writes a preference into the workspace, behind the agent's
// back, so that stopping has something to read.
func (g grave) personalise(t *testing.T) {
	t.Helper()
	rt, err := g.open("")
	must(t, err)
	refs, err := rt.List(t.Context())
	must(t, err)
	must(t, rt.WriteFile(t.Context(), refs[0].ID, ".gitconfig", []byte("mine")))
}

// cutPower ends all containers, as the end of the VM does.
func (g grave) cutPower(t *testing.T) {
	t.Helper()
	rt, err := g.open("")
	must(t, err)
	refs, err := rt.List(t.Context())
	must(t, err)
	for _, ref := range refs {
		rt.Kill(ref.ID)
	}
	must(t, g.save(rt))
}

func (g grave) copy(t *testing.T) grave {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(to, os.DirFS(g.dir)))
	return grave{to}
}

// TestKill kills the agent at each step of each job, before its effect and
// after it, lets another one begin, and looks at the end: as if nothing had
// happened. Once the agent alone is killed, once the whole VM.
func TestKill(t *testing.T) {
	for kind, ops := range map[agent.JobKind][]string{
		agent.JobCreate: {"enqueue", "create", "start", "configure", "clone", "address", "healthy", "writeFile", "commit"},
		agent.JobStart:  {"enqueue", "create", "start", "configure", "address", "healthy", "writeFile", "commit"},
		agent.JobStop:   {"enqueue", "readFile", "stop", "commit"},
		agent.JobDelete: {"enqueue", "remove", "commit"},
	} {
		ready := prepare(t, kind)
		for _, op := range ops {
			for _, when := range []string{"before", "after"} {
				if op == "readFile" && when == "after" {
					continue // nothing has changed since "before"
				}
				t.Run(fmt.Sprintf("%s/%s:%s", kind, op, when), func(t *testing.T) {
					t.Parallel()
					killAt(t, ready.copy(t), kind, op+":"+when)
				})
			}
		}
	}
}

func killAt(t *testing.T, g grave, kind agent.JobKind, point string) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envDir+"="+g.dir, envJob+"="+string(kind), envPoint+"="+point)
	out, err := cmd.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("it did not die at %s: %v\n%s", point, err, out)
	}
	dark := g.copy(t)
	dark.cutPower(t)
	g.recovers(t, kind, point)
	dark.recovers(t, kind, point)
}

// recovers lives the life after a death.
func (g grave) recovers(t *testing.T, kind agent.JobKind, point string) {
	t.Helper()
	c, end, err := g.live("")
	must(t, err)
	defer func() { must(t, end()) }()
	if point == "enqueue:before" { // it was not promised, so it is asked for again
		var asked error
		err := until(func() bool {
			// A workspace that ran before a power cut comes up first: it could be
			// stopped on its way up, too. Its record says "running" before anybody
			// has looked at its container, so that is looked at first.
			if kind == agent.JobStop && (g.runtimeAgrees(agent.JobStart) != "" || finished(c, agent.JobStart) != "") {
				return false
			}
			asked = ask(c, kind)
			return agent.ErrorCode(asked) != agent.CodeConflict
		})
		must(t, err, asked)
	}
	if err := until(func() bool { return finished(c, kind) == "" && g.runtimeAgrees(kind) == "" }); err != nil {
		t.Fatalf("%v: %s %s", err, finished(c, kind), g.runtimeAgrees(kind))
	}
	if kind == agent.JobStop {
		if p, err := c.Preference(t.Context(), agent.PreferenceGit); err != nil || p.Blob != "mine" {
			t.Errorf("preference: %+v, %v", p, err)
		}
	}
}

// runtimeAgrees says how the containers differ from what a job is for.
func (g grave) runtimeAgrees(kind agent.JobKind) string {
	rt, err := g.open("")
	if err != nil {
		return err.Error()
	}
	refs, err := rt.List(context.Background())
	if kind == agent.JobDelete {
		if err != nil || len(refs) != 0 {
			return fmt.Sprintf("containers: %+v, %v", refs, err)
		}
		return ""
	}
	want := agent.ContainerRunning
	if kind == agent.JobStop {
		want = agent.ContainerStopped
	}
	if err != nil || len(refs) != 1 || refs[0].Status != want || !refs[0].HasHome {
		return fmt.Sprintf("containers: %+v, %v", refs, err)
	}
	if b, err := rt.ReadFile(context.Background(), refs[0].ID, ".gitconfig"); err != nil || string(b) != "mine" {
		return fmt.Sprintf("preference: %q, %v", b, err)
	}
	readme, err := rt.ReadFile(context.Background(), refs[0].ID, "repo/README.md")
	if err != nil || !strings.Contains(string(readme), "owner/repo.git") {
		return fmt.Sprintf("clone: %q, %v", readme, err)
	}
	return ""
}
