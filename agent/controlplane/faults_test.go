package controlplane_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/stub"
)

// faultyStore fails while it is told to: at once, or, as a full disk does, when
// everything is written.
type faultyStore struct {
	agent.Store
	err atomic.Pointer[agent.Error]
}

func (s *faultyStore) Update(ctx context.Context, f func(agent.Tx) error) error {
	fault := s.err.Load()
	if fault != nil && fault.Code != agent.CodeNoSpace {
		return fault
	}
	return s.Store.Update(ctx, func(tx agent.Tx) error {
		if err := f(tx); err != nil || fault == nil {
			return err
		}
		return fault
	})
}

// TestRunner_DatabaseFails: while the database takes nothing, users are told,
// and afterwards every job goes on.
func TestRunner_DatabaseFails(t *testing.T) {
	for _, fault := range []*agent.Error{
		agent.Errorf(agent.CodeNoSpace, "The disk of the VM is full."),
		agent.Errorf(agent.CodeUnavailable, "The database is in use."),
	} {
		t.Run(fault.Code, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				faulty := &faultyStore{}
				w.hooks.set(func(_ context.Context, c stub.Call) error {
					if c.Op == stub.OpStart && !c.After {
						time.Sleep(time.Minute)
					}
					return nil
				})
				p := w.live(t, func(c *controlplane.Config) { faulty.Store, c.Store = c.Store, faulty })
				first := p.create(agent.NewWorkspace{Name: "first"})
				time.Sleep(time.Second) // its container is starting
				faulty.err.Store(fault)
				if _, err := p.CreateWorkspace(t.Context(), agent.NewWorkspace{Name: "second"}); !errors.Is(err, fault) {
					t.Errorf("error: %v", err)
				}
				time.Sleep(time.Hour)
				if got := p.status(first.ID); got != agent.StatusCreating {
					t.Errorf("status: %s", got)
				}
				faulty.err.Store(nil)
				if ws := p.wait(first.ID, agent.StatusRunning); ws.ErrorMessage != "" {
					t.Errorf("after the fault: %+v", ws)
				}
				p.created("second")
			})
		})
	}
}

// TestRunner_LostLease: a runner whose lease another took stops working and
// changes nothing; when that one falls silent its lease runs out.
func TestRunner_LostLease(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var interrupted atomic.Bool
		w.hooks.set(func(ctx context.Context, c stub.Call) error {
			if c.Op == stub.OpStart && !c.After && !interrupted.Load() {
				<-ctx.Done()
				interrupted.Store(true)
				return ctx.Err()
			}
			return nil
		})
		p := w.live(t)
		id := p.create(agent.NewWorkspace{Name: "demo"}).ID
		time.Sleep(time.Second)
		began := time.Now()
		must(t, p.db.Update(t.Context(), func(tx agent.Tx) error {
			jobs, err := tx.Jobs(id)
			if err != nil || len(jobs) != 1 || jobs[0].State != agent.JobLeased || jobs[0].Step != agent.StepStart {
				t.Fatalf("jobs: %+v, %v", jobs, err)
			}
			jobs[0].LeaseToken, jobs[0].LeasedUntil = "another", time.Now().Add(time.Minute)
			return tx.UpdateJob(jobs[0])
		}))
		p.wait(id, agent.StatusRunning)
		if took := time.Since(began); !interrupted.Load() || took < time.Minute || took > 2*time.Minute {
			t.Errorf("interrupted: %v; it ran after %s", interrupted.Load(), took)
		}
	})
}

// TestRunner_Heartbeat: a job may take much longer than its lease.
func TestRunner_Heartbeat(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.hooks.set(func(_ context.Context, c stub.Call) error {
			if c.Op == stub.OpCreate && !c.After {
				time.Sleep(10 * time.Minute)
			}
			return nil
		})
		p := w.live(t)
		id := p.create(agent.NewWorkspace{Name: "demo"}).ID
		for range 9 {
			time.Sleep(time.Minute)
			must(t, p.db.View(t.Context(), func(tx agent.Tx) error {
				jobs, err := tx.Jobs(id)
				if err != nil || len(jobs) != 1 || !jobs[0].LeasedUntil.After(time.Now()) || jobs[0].Attempts != 1 {
					t.Fatalf("jobs: %+v, %v", jobs, err)
				}
				return nil
			}))
		}
		p.wait(id, agent.StatusRunning)
	})
}

// TestRunner_KeepsBeingInterrupted: a job that takes the agent down with it is
// not begun for ever.
func TestRunner_KeepsBeingInterrupted(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.hooks.set(fail(stub.OpCreate, errors.New("not yet")))
		p := w.live(t)
		id := p.create(agent.NewWorkspace{Name: "demo"}).ID
		time.Sleep(10 * time.Millisecond)
		must(t, p.db.Update(t.Context(), func(tx agent.Tx) error {
			jobs, err := tx.Jobs(id)
			if err != nil || len(jobs) != 1 {
				t.Fatalf("jobs: %+v, %v", jobs, err)
			}
			jobs[0].Attempts = 5 // begun and never ended, as kill -9 leaves them
			return tx.UpdateJob(jobs[0])
		}))
		ws := p.wait(id, agent.StatusError)
		if ws.ErrorMessage != "The work on this workspace was interrupted 5 times. Try again." {
			t.Errorf("message: %q", ws.ErrorMessage)
		}
	})
}

// TestDelete_OvertakesStop: who deletes a workspace that will not stop does
// not wait for it.
func TestDelete_OvertakesStop(t *testing.T) {
	for name, delay := range map[string]time.Duration{"while it waits": 0, "while it works": 10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := w.live(t)
				ws := p.created("demo")
				stops := 0
				w.hooks.set(func(ctx context.Context, c stub.Call) error {
					if c.Op != stub.OpStop {
						return nil
					}
					stops++
					select {
					case <-time.After(delay):
					case <-ctx.Done():
					}
					return errors.New("it will not stop")
				})
				if _, err := p.StopWorkspace(t.Context(), ws.ID); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Millisecond)
				must(t, p.DeleteWorkspace(t.Context(), ws.ID))
				p.waitGone(ws.ID)
				if stops != 1 {
					t.Errorf("it was stopped %d times", stops)
				}
				if status, _ := p.rt.Status(t.Context(), ws.ID); status != agent.ContainerNotFound {
					t.Errorf("container: %s", status)
				}
			})
		})
	}
}

func TestDelete_Fails(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.created("demo")
		if _, err := p.StopWorkspace(t.Context(), ws.ID); err != nil {
			t.Fatal(err)
		}
		p.wait(ws.ID, agent.StatusStopped)
		w.hooks.set(fail(stub.OpRemove, errors.New("busy")))
		must(t, p.DeleteWorkspace(t.Context(), ws.ID))
		ws = p.wait(ws.ID, agent.StatusError)
		if ws.ErrorMessage != "Deleting the files failed. The agent's log has the details." {
			t.Errorf("message: %q", ws.ErrorMessage)
		}
		w.hooks.set(nil)
		must(t, p.DeleteWorkspace(t.Context(), ws.ID))
		p.waitGone(ws.ID)
	})
}

// TestReconcile_LostJobs: rows that a job should see to, but there is none.
func TestReconcile_LostJobs(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		creating, stopping := p.created("creating"), p.created("stopping")
		must(t, p.db.Update(t.Context(), func(tx agent.Tx) error {
			one, err := tx.Workspace(creating.ID)
			two, err2 := tx.Workspace(stopping.ID)
			one.Status, two.Status = agent.StatusCreating, agent.StatusStopping
			return errors.Join(err, err2, tx.UpdateWorkspace(one), tx.UpdateWorkspace(two))
		}))
		p.wait(creating.ID, agent.StatusRunning)
		p.wait(stopping.ID, agent.StatusStopped)
	})
}

// TestStop_SyncFails: preferences that cannot be read hinder nothing.
func TestStop_SyncFails(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.wait(p.create(agent.NewWorkspace{Name: "demo", AutoSyncPrefs: true}).ID, agent.StatusRunning)
		for _, hook := range []stub.Hook{
			fail(stub.OpReadFile, errors.New("unreadable")),
			func(ctx context.Context, c stub.Call) error { // hangs
				if c.Op == stub.OpReadFile {
					<-ctx.Done()
				}
				return ctx.Err()
			},
		} {
			w.hooks.set(hook)
			p.restart(ws.ID)
		}
		if !strings.Contains(p.log.String(), "preference is not synchronised") {
			t.Errorf("the log says nothing:\n%s", p.log)
		}
	})
}

// TestStart_ClonesOnce: what the user did with the work tree is theirs, and a
// start needs no network.
func TestStart_ClonesOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.wait(p.create(agent.NewWorkspace{Name: "demo", RepositoryID: "a/b"}).ID, agent.StatusRunning)
		w.hooks.set(fail(stub.OpClone, errors.New("no network")))
		p.restart(ws.ID)
		if got := p.file(ws.ID, ".config/code-server/workspace-folder"); got != "/home/admin/b\n" {
			t.Errorf("folder: %q", got)
		}
	})
}

// TestStart_ClonesAgain: the volume went with the disk.
func TestStart_ClonesAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.wait(p.create(agent.NewWorkspace{Name: "demo", RepositoryID: "a/b"}).ID, agent.StatusRunning)
		must(t, w.rt.Remove(t.Context(), ws.ID))
		eventually(t, "it is cloned again", func() bool {
			return p.status(ws.ID) == agent.StatusRunning && strings.HasPrefix(p.file(ws.ID, "b/README.md"), "# https://github.com/a/b")
		})
	})
}

// TestRun_DatabaseFailsAtFirst: the start waits for the database.
func TestRun_DatabaseFailsAtFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		faulty := &faultyStore{}
		faulty.err.Store(agent.Errorf(agent.CodeUnavailable, "The database is in use."))
		p := w.live(t, func(c *controlplane.Config) { faulty.Store, c.Store = c.Store, faulty })
		time.Sleep(time.Hour)
		faulty.err.Store(nil)
		p.created("demo")
	})
}

// TestStart_TokenOutlivesFailure: a clone that failed can be tried again
// without asking for the token again; the database never has it.
func TestStart_TokenOutlivesFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		rt := &tokenRuntime{Runtime: w.rt}
		rt.err.Store(agent.Errorf(agent.CodeInternal, "The server is down."))
		p := w.live(t, func(c *controlplane.Config) { c.Runtime = rt })
		ws := p.wait(p.create(agent.NewWorkspace{Name: "demo", RepositoryID: "a/b", Token: "s3cret"}).ID, agent.StatusError)
		rt.err.Store(nil)
		if _, err := p.StartWorkspace(t.Context(), ws.ID); err != nil {
			t.Fatal(err)
		}
		p.wait(ws.ID, agent.StatusRunning)
		if got := rt.token.Load(); got != "s3cret" {
			t.Errorf("token of the second try: %q", got)
		}
		assertNowhere(t, w.path, "s3cret")
	})
}

// tokenRuntime notes the token that a clone was given.
type tokenRuntime struct {
	agent.Runtime
	token atomic.Value
	err   atomic.Pointer[agent.Error]
}

func (r *tokenRuntime) Clone(ctx context.Context, id string, c agent.Clone) error {
	r.token.Store(c.Token)
	if err := r.err.Load(); err != nil {
		return err
	}
	return r.Runtime.Clone(ctx, id, c)
}

// TestRunner_UnknownKind: work that only another release knows is not mistaken
// for any other. It is given up, the workspace says so, and can be started.
func TestRunner_UnknownKind(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.created("demo")
		var asked []stub.Op
		w.hooks.set(func(_ context.Context, c stub.Call) error {
			if !c.After && c.Op != stub.OpList && c.Op != stub.OpDiskUsage { // reconciliation looks at what is
				asked = append(asked, c.Op)
			}
			return nil
		})
		must(t, p.db.Update(t.Context(), func(tx agent.Tx) error {
			return tx.InsertJob(agent.Job{ID: "later", Kind: "of a later release", Payload: `{"name":"one"}`, WorkspaceID: ws.ID, State: agent.JobQueued})
		}))
		got := p.wait(ws.ID, agent.StatusError)
		if want := `This release does not know the work "of a later release" that was asked for.`; !strings.HasPrefix(got.ErrorMessage, want) {
			t.Errorf("message: %q, want %q", got.ErrorMessage, want)
		}
		if !slices.Equal(asked, []stub.Op{stub.OpStop}) { // nothing runs in error
			t.Errorf("the runtime was asked: %q", asked)
		}
		if s := p.state(); s.Jobs[agent.JobParked] != 1 {
			t.Errorf("jobs: %v", s.Jobs)
		}

		w.hooks.set(nil)
		_, err := p.StartWorkspace(t.Context(), ws.ID)
		must(t, err)
		p.wait(ws.ID, agent.StatusRunning)
	})
}
