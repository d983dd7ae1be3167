package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/stub"
)

func TestControlPlane_Lifecycle(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t, func(c *controlplane.Config) { c.CloneBaseURL = "https://git.example/" })
		ctx := t.Context()
		ws := p.create(agent.NewWorkspace{Name: "demo", RepositoryID: "owner/repo.js", AutoSyncPrefs: true, Token: "s3cret"})
		if ws.Status != agent.StatusCreating || ws.Image != agent.DefaultImage || !agent.ValidID(ws.ID) || ws.CreatedAt.IsZero() || ws.Address != "" {
			t.Errorf("created: %+v", ws)
		}
		ws = p.wait(ws.ID, agent.StatusRunning)
		if ws.Address != "127.0.0.1:20000" || ws.ErrorMessage != "" {
			t.Errorf("running: %+v", ws)
		}
		if got := p.file(ws.ID, "repo.js/README.md"); got != "# https://git.example/owner/repo.js.git\n" {
			t.Errorf("clone: %q", got)
		}
		if got := p.file(ws.ID, ".config/code-server/workspace-folder"); got != "/home/admin/repo.js\n" {
			t.Errorf("folder: %q", got)
		}
		steps, err := p.Steps(ctx, ws.ID)
		if want := "container:done start:done configure:done clone:done health:done preferences:done commit:done"; err != nil || stepNames(steps) != want {
			t.Errorf("steps: %s, %v, want %s", stepNames(steps), err, want)
		}
		if u, err := p.Usage(ctx, ws.ID); err != nil || u.Memory == 0 {
			t.Errorf("usage: %+v, %v", u, err)
		}
		if _, err := p.AddPort(ctx, ws.ID, agent.NewPort{Port: 3000}); err != nil {
			t.Fatal(err)
		}
		must(t, p.rt.WriteFile(ctx, ws.ID, ".gitconfig", []byte("[user]\r\n\xff")))

		stopping, err := p.StopWorkspace(ctx, ws.ID)
		if err != nil || stopping.Status != agent.StatusStopping {
			t.Errorf("stop: %+v, %v", stopping, err)
		}
		if ws = p.wait(ws.ID, agent.StatusStopped); ws.Address != "" {
			t.Errorf("stopped: %+v", ws)
		}
		if ports, err := p.ListPorts(ctx, ws.ID); err != nil || len(ports) != 0 || ports == nil {
			t.Errorf("ports of a stopped workspace: %v, %v", ports, err)
		}
		if pref, err := p.Preference(ctx, agent.PreferenceGit); err != nil || pref.Blob != "[user]\r\n\xff" {
			t.Errorf("preference: %+v, %v", pref, err)
		}
		if status, _ := p.rt.Status(ctx, ws.ID); status != agent.ContainerStopped {
			t.Errorf("container: %s", status)
		}

		other := p.created("other")
		if got := p.file(other.ID, ".gitconfig"); got != "[user]\r\n\xff" {
			t.Errorf("preference in another workspace: %q", got)
		}
		if other.Address != "127.0.0.1:20001" {
			t.Errorf("address: %s", other.Address)
		}
		if again, err := p.StartWorkspace(ctx, ws.ID); err != nil || again.Status != agent.StatusCreating {
			t.Errorf("start: %+v, %v", again, err)
		}
		if ws = p.wait(ws.ID, agent.StatusRunning); ws.Address != "127.0.0.1:20000" {
			t.Errorf("running again: %+v", ws)
		}
		if _, err := p.StopWorkspace(ctx, ws.ID); err != nil {
			t.Fatal(err)
		}
		must(t, p.DeleteWorkspace(ctx, ws.ID), p.DeleteWorkspace(ctx, ws.ID)) // while it is stopping, twice
		p.waitGone(ws.ID)
		if status, _ := p.rt.Status(ctx, ws.ID); status != agent.ContainerNotFound {
			t.Errorf("container: %s", status)
		}
		if next := p.created("next"); next.Address != "127.0.0.1:20000" {
			t.Errorf("the lowest free slot was not used: %+v", next)
		}
		if s := p.state(); len(s.Jobs) != 0 || s.Workspaces[agent.StatusRunning] != 2 || len(s.Orphans) != 0 {
			t.Errorf("state: %+v", s)
		}
	})
}

func TestControlPlane_Refusals(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ctx := t.Context()
		ws := p.created("demo")
		id := ws.ID
		unknown := strings.Repeat("0", 25)
		create := func(n agent.NewWorkspace) error { _, err := p.CreateWorkspace(ctx, n); return err }
		start := func(id string) error { _, err := p.StartWorkspace(ctx, id); return err }
		stop := func(id string) error { _, err := p.StopWorkspace(ctx, id); return err }
		add := func(id string, port int) error {
			_, err := p.AddPort(ctx, id, agent.NewPort{Port: port})
			return err
		}
		save := func(name, id string) error { _, err := p.SavePreference(ctx, name, id, ""); return err }
		for i := range agent.MaxPorts {
			must(t, add(id, 3000+i))
		}
		wantError(t, create(agent.NewWorkspace{Name: "demo"}), agent.CodeConflict, `Workspace "demo" already exists`)
		wantError(t, create(agent.NewWorkspace{Name: "x"}), agent.CodeValidation, "name must be 3 to 63 characters of a-z, 0-9 and dashes")
		wantError(t, start(id), agent.CodeConflict, `Cannot transition from "running" to "creating"`)
		wantError(t, start(unknown), agent.CodeNotFound, `Workspace "`+unknown+`" not found`)
		wantError(t, p.DeleteWorkspace(ctx, id), agent.CodeConflict, `Cannot delete workspace in "running" state. Stop it first.`)
		wantError(t, add(id, 3000), agent.CodeConflict, "Port 3000 is already registered for this workspace")
		wantError(t, add(id, 4000), agent.CodeConflict, "Maximum of 5 ports per workspace reached")
		wantError(t, add(unknown, 4000), agent.CodeNotFound, `Workspace "`+unknown+`" not found`)
		wantError(t, p.RemovePort(ctx, id, 4000), agent.CodeNotFound, "Port 4000 is not registered for this workspace")
		wantError(t, save(agent.PreferenceGit, id), agent.CodeNotFound, `Workspace "demo" has no file ~/.gitconfig`)
		wantError(t, save(agent.PreferenceGit, unknown), agent.CodeNotFound, `Workspace "`+unknown+`" not found`)
		if err := save("Other", id); agent.ErrorCode(err) != agent.CodeValidation {
			t.Errorf("error: %v", err)
		}
		_, err := p.Preference(ctx, agent.PreferenceGit)
		wantError(t, err, agent.CodeNotFound, `Setting "GitConfig" not found`)
		_, err = p.WorkspaceByName(ctx, "none")
		wantError(t, err, agent.CodeNotFound, `Workspace "none" not found`)
		if found, err := p.WorkspaceByName(ctx, "demo"); err != nil || found != ws {
			t.Errorf("by name: %+v, %v", found, err)
		}

		must(t, stop(id))
		p.wait(id, agent.StatusStopped)
		wantError(t, stop(id), agent.CodeConflict, `Cannot transition from "stopped" to "stopping"`)
		wantError(t, add(id, 3000), agent.CodeConflict, `Ports can only be managed when workspace is running (current: "stopped")`)
		wantError(t, p.RemovePort(ctx, id, 3000), agent.CodeConflict, `Ports can only be managed when workspace is running (current: "stopped")`)
		wantError(t, save(agent.PreferenceGit, id), agent.CodeConflict, `Workspace "demo" is not running (current: "stopped")`)
		_, err = p.Usage(ctx, id)
		wantError(t, err, agent.CodeConflict, `Workspace "demo" is not running (current: "stopped")`)

		w.hooks.set(func(ctx context.Context, c stub.Call) error {
			if c.Op == stub.OpRemove && !c.After {
				<-ctx.Done()
			}
			return ctx.Err()
		})
		must(t, p.DeleteWorkspace(ctx, id))
		wantError(t, start(id), agent.CodeConflict, `Workspace "demo" is being deleted`)
	})
}

func TestControlPlane_List(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		var want []string
		for i := range 7 {
			want = append([]string{p.create(agent.NewWorkspace{Name: fmt.Sprintf("ws-%d", i)}).ID}, want...)
			time.Sleep(time.Millisecond)
		}
		var got []string
		var after agent.Cursor
		for {
			page, next, err := p.ListWorkspaces(t.Context(), after, 3)
			must(t, err)
			for _, ws := range page {
				got = append(got, ws.ID)
			}
			if next == (agent.Cursor{}) {
				break
			}
			if after, err = agent.DecodeCursor(next.Encode()); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("list: %v, want %v", got, want)
		}
		if page, next, err := p.ListWorkspaces(t.Context(), agent.Cursor{}, 7); err != nil || len(page) != 7 || next != (agent.Cursor{}) {
			t.Errorf("the only page: %d, %v, %v", len(page), next, err)
		}
	})
}

func TestRunner_TwentyAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var most, now int
		w.hooks.set(func(_ context.Context, c stub.Call) error {
			if c.Op == stub.OpStart {
				w.hooks.mu.Lock()
				if now++; c.After {
					now -= 2
				}
				most = max(most, now)
				w.hooks.mu.Unlock()
			}
			if c.Op == stub.OpStart && !c.After {
				time.Sleep(2 * time.Second)
			}
			return nil
		})
		p := w.live(t, func(c *controlplane.Config) { c.Concurrency = 3 })
		var ids []string
		for i := range 20 {
			ids = append(ids, p.create(agent.NewWorkspace{Name: fmt.Sprintf("ws-%02d", i)}).ID)
		}
		addresses := map[string]bool{}
		for _, id := range ids {
			addresses[p.wait(id, agent.StatusRunning).Address] = true
		}
		if len(addresses) != 20 || most != 3 {
			t.Errorf("%d addresses, %d jobs at once", len(addresses), most)
		}
	})
}

func TestRunner_RetriesThenParks(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		w.hooks.set(fail(stub.OpStart, errors.New("dial 10.0.0.1: boom")))
		began := time.Now()
		ws := p.wait(p.create(agent.NewWorkspace{Name: "demo"}).ID, agent.StatusError)
		if took := time.Since(began); took < 7*time.Second || took > time.Minute {
			t.Errorf("five attempts took %s", took)
		}
		if ws.ErrorMessage != "Starting the container failed. The agent's log has the details." {
			t.Errorf("message: %q", ws.ErrorMessage)
		}
		if n := strings.Count(p.log.String(), "boom"); n != 5 {
			t.Errorf("the log tells of %d attempts:\n%s", n, p.log)
		}
		if steps, _ := p.Steps(t.Context(), ws.ID); stepNames(steps) != "container:done start:failed" || steps[1].Message != ws.ErrorMessage {
			t.Errorf("steps: %+v", steps)
		}
		if s := p.state(); s.Jobs[agent.JobParked] != 1 {
			t.Errorf("jobs: %v", s.Jobs)
		}
		w.hooks.set(nil)
		if _, err := p.StartWorkspace(t.Context(), ws.ID); err != nil {
			t.Fatal(err)
		}
		if ws = p.wait(ws.ID, agent.StatusRunning); ws.ErrorMessage != "" {
			t.Errorf("after the retry: %+v", ws)
		}
		if s := p.state(); len(s.Jobs) != 0 {
			t.Errorf("jobs: %v", s.Jobs)
		}
	})
}

// TestRunner_Failures: what each kind of failure tells the user, and how often
// it is tried.
func TestRunner_Failures(t *testing.T) {
	for name, tt := range map[string]struct {
		op    stub.Op
		err   error
		tries int
		want  string
	}{
		"missing image": {stub.OpCreate, agent.Errorf(agent.CodeValidation, "The image %q is not there.", "x"), 1, `The image "x" is not there.`},
		"folder taken":  {stub.OpClone, agent.Errorf(agent.CodeConflict, "The folder is yours."), 1, "The folder is yours."},
		"ended":         {stub.OpConfigure, agent.Errorf(agent.CodeConflict, "It does not run."), 5, "It does not run."},
		"disk full":     {stub.OpCreate, agent.Errorf(agent.CodeNoSpace, "The disk is full."), 5, "The disk is full."},
		"lost answer":   {stub.OpCreate, context.DeadlineExceeded, 5, "Preparing the container took too long."},
		"with token":    {stub.OpClone, errors.New("fatal: https://s3cret@git.example"), 5, "Cloning the repository failed. The agent's log has the details."},
		"token shown":   {stub.OpClone, agent.Errorf(agent.CodeInternal, "git says: s3cret is wrong"), 5, "git says: *** is wrong"},
		"health":        {stub.OpHealthy, errors.New("connection refused"), 5, "The IDE did not answer within 2m0s."},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				tries := 0
				w.hooks.set(func(ctx context.Context, c stub.Call) error {
					if c.Op == stub.OpCreate && !c.After {
						tries++
					}
					return fail(tt.op, tt.err)(ctx, c)
				})
				p := w.live(t)
				ws := p.wait(p.create(agent.NewWorkspace{Name: "demo", RepositoryID: "a/b", Token: "s3cret"}).ID, agent.StatusError)
				if ws.ErrorMessage != tt.want || tries != tt.tries || ws.Address != "" {
					t.Errorf("%d tries, message %q", tries, ws.ErrorMessage)
				}
				if strings.Contains(p.log.String(), "s3cret") {
					t.Errorf("the log tells the token:\n%s", p.log)
				}
				must(t, p.DeleteWorkspace(t.Context(), ws.ID))
				p.waitGone(ws.ID)
			})
		})
	}
}

func TestRunner_LostAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var lost sync.Map // reconciliation calls, too
		w.hooks.set(func(_ context.Context, c stub.Call) error {
			if !c.After {
				return nil
			}
			if _, before := lost.LoadOrStore(c, true); before {
				return nil
			}
			return errors.New("EOF")
		})
		p := w.live(t, func(c *controlplane.Config) { c.Attempts = 20 })
		ws := p.wait(p.create(agent.NewWorkspace{Name: "demo", RepositoryID: "a/b"}).ID, agent.StatusRunning)
		if _, err := p.StopWorkspace(t.Context(), ws.ID); err != nil {
			t.Fatal(err)
		}
		p.wait(ws.ID, agent.StatusStopped)
		must(t, p.DeleteWorkspace(t.Context(), ws.ID))
		p.waitGone(ws.ID)
	})
}

func TestRunner_RuntimeUnavailable(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		gone := agent.Errorf(agent.CodeUnavailable, "Podman does not answer.")
		w.hooks.set(func(context.Context, stub.Call) error { return gone })
		p := w.live(t)
		ws := p.create(agent.NewWorkspace{Name: "demo"})
		time.Sleep(time.Hour)
		got, err := p.Workspace(t.Context(), ws.ID)
		if err != nil || got.Status != agent.StatusCreating || got.ErrorMessage != gone.Message {
			t.Errorf("while it is gone: %+v, %v", got, err)
		}
		if s := p.state(); s.RuntimeError == "" || s.Jobs[agent.JobParked] != 0 {
			t.Errorf("state: %+v", s)
		}
		if n := strings.Count(p.log.String(), "job failed"); n < 20 || n > 200 {
			t.Errorf("%d attempts in an hour", n)
		}
		w.hooks.set(nil)
		if got = p.wait(ws.ID, agent.StatusRunning); got.ErrorMessage != "" {
			t.Errorf("after it returned: %+v", got)
		}
		eventually(t, "the runtime is fine", func() bool { return p.state().RuntimeError == "" })
	})
}

// TestRunner_HandsBack: a job that is interrupted goes on at once in the next
// life, and the attempt does not count.
func TestRunner_HandsBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.hooks.set(func(ctx context.Context, c stub.Call) error {
			if c.Op == stub.OpStart {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		p := w.live(t)
		id := p.create(agent.NewWorkspace{Name: "demo"}).ID
		for range 7 { // more often than a job may fail
			time.Sleep(10 * time.Millisecond)
			p.end()
			p = w.live(t)
		}
		time.Sleep(10 * time.Millisecond)
		p.end()
		w.hooks.set(nil)
		before := time.Now()
		p = w.live(t)
		p.wait(id, agent.StatusRunning)
		if took := time.Since(before); took > time.Second {
			t.Errorf("it took %s to go on", took)
		}
	})
}

// TestRunner_ClockJumps sets the clock back and forth under a job that waits
// and one that runs.
func TestRunner_ClockJumps(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var jump atomic.Int64
		var tries atomic.Int32
		w.hooks.set(func(_ context.Context, c stub.Call) error {
			if c.Op != stub.OpStart || c.After {
				return nil
			}
			if tries.Add(1) == 1 { // it shall wait for a time that the clock is far away from
				jump.Store(int64(24 * time.Hour))
				time.AfterFunc(100*time.Millisecond, func() { jump.Store(int64(-8760 * time.Hour)) })
				return errors.New("once")
			}
			jump.Store(int64(8760 * time.Hour)) // its lease seems long over
			time.Sleep(4 * time.Minute)
			return nil
		})
		p := w.live(t, func(c *controlplane.Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
		})
		began := time.Now()
		p.wait(p.create(agent.NewWorkspace{Name: "demo"}).ID, agent.StatusRunning)
		if took := time.Since(began); took > 6*time.Minute || tries.Load() != 2 {
			t.Errorf("%d tries in %s", tries.Load(), took)
		}
	})
}

func TestReconcile(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		p := w.live(t)
		runs, stops := p.created("runs"), p.created("stops")
		if _, err := p.AddPort(ctx, runs.ID, agent.NewPort{Port: 3000}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.StopWorkspace(ctx, stops.ID); err != nil {
			t.Fatal(err)
		}
		p.wait(stops.ID, agent.StatusStopped)
		p.end()

		// The VM is cut off and boots: no container runs, but one that should not.
		w.rt.Kill(runs.ID)
		must(t, w.rt.Start(ctx, stops.ID))
		stranger := agent.Container{ID: strings.Repeat("z", 25), Name: "stranger", Port: 1, Slot: 2}
		must(t, w.rt.Create(ctx, stranger))
		p = w.live(t)
		time.Sleep(10 * time.Second)
		p.wait(runs.ID, agent.StatusRunning)
		if status, _ := p.rt.Status(ctx, runs.ID); status != agent.ContainerRunning {
			t.Errorf("container: %s", status)
		}
		if ports, _ := p.ListPorts(ctx, runs.ID); len(ports) != 1 {
			t.Errorf("ports: %v", ports)
		}
		if r, err := p.Route(ctx, "runs", 3000); err != nil || r.Upstream != runs.Address {
			t.Errorf("route: %+v, %v", r, err)
		}
		if status, _ := p.rt.Status(ctx, stops.ID); status != agent.ContainerStopped || p.status(stops.ID) != agent.StatusStopped {
			t.Errorf("stopped workspace's container: %s", status)
		}
		if s := p.state(); len(s.Orphans) != 1 || s.Orphans[0].ID != stranger.ID || s.ReconciledAt.IsZero() {
			t.Errorf("orphans: %+v", s.Orphans)
		}
		time.Sleep(time.Hour)
		if n := strings.Count(p.log.String(), "belong to no workspace"); n != 1 {
			t.Errorf("the orphan was logged %d times", n)
		}
		if status, _ := p.rt.Status(ctx, stranger.ID); status != agent.ContainerStopped {
			t.Errorf("the orphan was touched: %s", status)
		}
		if next := p.created("next"); next.Address != "127.0.0.1:"+strconv.Itoa(agent.FirstLoopbackPort+3) {
			t.Errorf("the next workspace is at %s: its ids are the orphan's", next.Address)
		}
	})
}

// TestControlPlane_Rebooted: from the first moment on no row says that a
// workspace runs, also while the runtime is not there yet.
func TestControlPlane_Rebooted(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		runs, stops := p.created("runs"), p.created("stops")
		if _, err := p.StopWorkspace(t.Context(), stops.ID); err != nil {
			t.Fatal(err)
		}
		p.wait(stops.ID, agent.StatusStopped)
		if _, err := p.AddPort(t.Context(), runs.ID, agent.NewPort{Port: 3000}); err != nil {
			t.Fatal(err)
		}
		p.end()
		w.rt.Kill(runs.ID)
		w.hooks.set(func(context.Context, stub.Call) error {
			return agent.Errorf(agent.CodeUnavailable, "not there yet")
		})
		p = w.live(t, func(c *controlplane.Config) { c.Rebooted = true })
		if p.status(runs.ID) != agent.StatusCreating || p.status(stops.ID) != agent.StatusStopped {
			t.Errorf("after the boot: %s and %s", p.status(runs.ID), p.status(stops.ID))
		}
		if r, err := p.Route(t.Context(), "runs", 0); agent.ErrorCode(err) != agent.CodeConflict {
			t.Errorf("route: %+v, %v", r, err)
		}
		time.Sleep(time.Minute)
		w.hooks.set(nil)
		if again := p.wait(runs.ID, agent.StatusRunning); again.Address != runs.Address {
			t.Errorf("address %q, before %q", again.Address, runs.Address)
		}
		if ports, _ := p.ListPorts(t.Context(), runs.ID); len(ports) != 1 {
			t.Errorf("ports: %v", ports)
		}
		p.end()
		if p = w.live(t); p.status(runs.ID) != agent.StatusRunning {
			t.Errorf("after a restart of the agent alone: %s", p.status(runs.ID))
		}
	})
}

// silentOnce is an observer that goes away when it is first asked to wait.
type silentOnce struct {
	agent.Observer
	asked *atomic.Int32
}

func (o silentOnce) Wait(ctx context.Context, id string) error {
	if o.asked.Add(1) == 1 {
		return agent.Errorf(agent.CodeUnavailable, "Podman does not answer.")
	}
	return o.Observer.Wait(ctx, id)
}

// TestReconcile_WatchesAgain: a runtime that went away while it was to wait for a
// container's end is asked again, so that the end is noticed when it happens.
func TestReconcile_WatchesAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var asked, starts atomic.Int32
		w.hooks.set(func(_ context.Context, c stub.Call) error {
			if c.Op == stub.OpStart && !c.After {
				starts.Add(1)
			}
			return nil
		})
		p := w.live(t, func(c *controlplane.Config) { c.Observer, c.ReconcileEvery = silentOnce{w.rt, &asked}, 1000*time.Hour })
		ws := p.created("demo")
		time.Sleep(time.Minute)
		if asked.Load() < 2 {
			t.Fatalf("asked %d times", asked.Load())
		}
		w.rt.Kill(ws.ID)
		time.Sleep(time.Minute)
		if got := p.status(ws.ID); got != agent.StatusRunning || starts.Load() != 2 {
			t.Errorf("a minute after its end it is %s, after %d starts", got, starts.Load())
		}
	})
}

// TestReconcile_Ends: a container's end is noticed when it happens, not at the
// next look; also one that ran before the agent did. Ends that were asked for
// make no work.
func TestReconcile_Ends(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var looks atomic.Int32
		w.hooks.set(func(_ context.Context, c stub.Call) error {
			switch {
			case c.After:
			case c.Op == stub.OpList:
				looks.Add(1)
			case c.Op == stub.OpStart:
				time.Sleep(time.Second)
			}
			return nil
		})
		rare := func(c *controlplane.Config) { c.ReconcileEvery = 24 * time.Hour }
		p := w.live(t, rare)
		ws := p.created("demo")
		for range 2 {
			w.rt.Kill(ws.ID)
			synctest.Wait()
			ended, err := p.Workspace(t.Context(), ws.ID)
			if err != nil || ended.Status != agent.StatusCreating || ended.ErrorMessage != "The workspace's processes ended by themselves. It is started again." {
				t.Errorf("as soon as the container has ended: %+v, %v", ended, err)
			}
			if again := p.wait(ws.ID, agent.StatusRunning); again.ErrorMessage != "" {
				t.Errorf("when it runs again: %q", again.ErrorMessage)
			}
			p.end()
			p = w.live(t, rare)
			synctest.Wait()
		}
		before := looks.Load()
		for range 3 {
			p.restart(ws.ID)
		}
		if n := looks.Load() - before; n != 0 {
			t.Errorf("reconciliation looked %d times at containers that ended when asked to", n)
		}
	})
}

func TestReconcile_KeepsEnding(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.created("demo")
		for range 3 {
			w.rt.Kill(ws.ID)
			eventually(t, "it runs again", func() bool {
				status, _ := w.rt.Status(t.Context(), ws.ID)
				return status == agent.ContainerRunning && p.status(ws.ID) == agent.StatusRunning
			})
		}
		w.rt.Kill(ws.ID)
		ws = p.wait(ws.ID, agent.StatusError)
		if ws.ErrorMessage != "The workspace's processes ended by themselves 4 times within 10m0s. The workspace's log says why." {
			t.Errorf("message: %q", ws.ErrorMessage)
		}
	})
}

// TestReconcile_FullDisk: a recovery that could not be stored is not one of the
// few that a workspace gets.
func TestReconcile_FullDisk(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		faulty := &faultyStore{}
		p := w.live(t, func(c *controlplane.Config) { faulty.Store, c.Store = c.Store, faulty })
		ws := p.created("demo")
		faulty.err.Store(agent.Errorf(agent.CodeNoSpace, "The disk is full."))
		w.rt.Kill(ws.ID)
		time.Sleep(9 * time.Minute)
		faulty.err.Store(nil)
		eventually(t, "it runs again", func() bool {
			status, _ := w.rt.Status(t.Context(), ws.ID)
			return status == agent.ContainerRunning && p.status(ws.ID) == agent.StatusRunning
		})
	})
}

// TestControlPlane_Shutdown: what ran before the VM's end runs again after
// it, and nothing begins meanwhile.
func TestControlPlane_Shutdown(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		p := w.live(t)
		kept := p.wait(p.create(agent.NewWorkspace{Name: "kept", AutoSyncPrefs: true}).ID, agent.StatusRunning)
		must(t, p.rt.WriteFile(ctx, kept.ID, ".gitconfig", []byte("mine")))
		w.hooks.set(func(ctx context.Context, c stub.Call) error {
			if c.Op == stub.OpHealthy {
				return errors.New("not yet")
			}
			return nil
		})
		half := p.create(agent.NewWorkspace{Name: "half"})
		time.Sleep(time.Second)
		must(t, p.Shutdown(ctx))
		time.Sleep(time.Hour)
		for _, id := range []string{kept.ID, half.ID} {
			if status, _ := p.rt.Status(ctx, id); status != agent.ContainerStopped {
				t.Errorf("container of %s: %s", id, status)
			}
		}
		if pref, err := p.Preference(ctx, agent.PreferenceGit); err != nil || pref.Blob != "mine" {
			t.Errorf("preference: %+v, %v", pref, err)
		}
		if p.status(kept.ID) != agent.StatusRunning || p.status(half.ID) != agent.StatusCreating {
			t.Error("the rows do not say what is to run")
		}
		if err := p.Run(ctx); err == nil {
			t.Error("it runs after its shutdown")
		}
		const refused = "The VM was asked to shut down, so nothing new begins. If it stays on, start it again."
		_, err := p.CreateWorkspace(ctx, agent.NewWorkspace{Name: "late"})
		wantError(t, err, agent.CodeUnavailable, refused)
		_, err = p.StopWorkspace(ctx, kept.ID)
		wantError(t, err, agent.CodeUnavailable, refused)
		_, err = p.StartWorkspace(ctx, kept.ID)
		wantError(t, err, agent.CodeUnavailable, refused)
		wantError(t, p.DeleteWorkspace(ctx, half.ID), agent.CodeUnavailable, refused)
		wantError(t, p.Accepting(), agent.CodeUnavailable, refused)
		p.end()
		w.hooks.set(nil)
		p = w.live(t)
		time.Sleep(time.Minute)
		p.wait(kept.ID, agent.StatusRunning)
		p.wait(half.ID, agent.StatusRunning)
		if status, _ := p.rt.Status(ctx, kept.ID); status != agent.ContainerRunning {
			t.Errorf("container: %s", status)
		}
	})
}
