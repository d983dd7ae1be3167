package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/sqlite"
	"github.com/rockpool/rootvm/agent/stub"
)

// hang makes a method wait until its caller gives up, for all workspaces that
// are hung.
func hang(op stub.Op, hung func(id string) bool) stub.Hook {
	return func(ctx context.Context, c stub.Call) error {
		if c.Op != op || c.After || !hung(c.ID) {
			return nil
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
}

func everyID(string) bool { return true }

// provisionOps are the methods that bring a workspace up.
var provisionOps = []stub.Op{stub.OpCreate, stub.OpStart, stub.OpConfigure, stub.OpClone, stub.OpAddress, stub.OpHealthy, stub.OpWriteFile}

// preferenceFor has something to bring to every workspace.
func preferenceFor(t *testing.T, p *plane) {
	t.Helper()
	must(t, p.db.Update(t.Context(), func(tx agent.Tx) error {
		return tx.PutPreference(agent.Preference{Name: agent.PreferenceGit, Blob: "mine", UpdatedAt: time.Now()})
	}))
}

// TestCreating_Stop: wherever a workspace hangs on its way up, a stop ends that
// at once, and the workspace can be started again.
func TestCreating_Stop(t *testing.T) {
	for _, op := range provisionOps {
		t.Run(string(op), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := w.live(t)
				preferenceFor(t, p)
				w.hooks.set(hang(op, everyID))
				ws := p.create(agent.NewWorkspace{Name: "demo", RepositoryID: "a/b", AutoSyncPrefs: true})
				time.Sleep(time.Second)
				stopping, err := p.StopWorkspace(t.Context(), ws.ID)
				if err != nil || stopping.Status != agent.StatusStopping {
					t.Fatalf("stop: %+v, %v", stopping, err)
				}
				began := time.Now()
				if got := p.wait(ws.ID, agent.StatusStopped); got.ErrorMessage != "" || got.Address != "" {
					t.Errorf("stopped: %+v", got)
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %s", took)
				}
				if status, _ := p.rt.Status(t.Context(), ws.ID); status == agent.ContainerRunning {
					t.Error("the container runs")
				}
				if s := p.state(); len(s.Jobs) != 0 {
					t.Errorf("jobs: %v", s.Jobs)
				}

				w.hooks.set(nil)
				_, err = p.StartWorkspace(t.Context(), ws.ID)
				must(t, err)
				p.wait(ws.ID, agent.StatusRunning)
			})
		})
	}
}

// TestCreating_Delete: the same for a deletion, which leaves nothing.
func TestCreating_Delete(t *testing.T) {
	for _, op := range provisionOps {
		t.Run(string(op), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := w.live(t)
				preferenceFor(t, p)
				w.hooks.set(hang(op, everyID))
				ws := p.create(agent.NewWorkspace{Name: "demo", RepositoryID: "a/b"})
				time.Sleep(time.Second)
				began := time.Now()
				must(t, p.DeleteWorkspace(t.Context(), ws.ID))
				p.waitGone(ws.ID)
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %s", took)
				}
				if status, _ := p.rt.Status(t.Context(), ws.ID); status != agent.ContainerNotFound {
					t.Errorf("container: %s", status)
				}
			})
		})
	}
}

// TestCreating_RetriesEnd: an attempt that waits for its next turn goes, too.
func TestCreating_RetriesEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t, func(c *controlplane.Config) { c.Backoff, c.MaxBackoff = time.Hour, time.Hour })
		w.hooks.set(fail(stub.OpStart, errors.New("boom")))
		stopped, deleted := p.create(agent.NewWorkspace{Name: "stopped"}), p.create(agent.NewWorkspace{Name: "deleted"})
		time.Sleep(time.Second)
		began := time.Now()
		_, err := p.StopWorkspace(t.Context(), stopped.ID)
		must(t, err, p.DeleteWorkspace(t.Context(), deleted.ID))
		p.wait(stopped.ID, agent.StatusStopped)
		p.waitGone(deleted.ID)
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestEndings_TurnsOfTheirOwn: workspaces that hang on their way up delay
// neither a stop nor a deletion.
func TestEndings_TurnsOfTheirOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		runs, stopped := p.created("runs"), p.created("stopped")
		_, err := p.StopWorkspace(t.Context(), stopped.ID)
		must(t, err)
		p.wait(stopped.ID, agent.StatusStopped)
		w.hooks.set(hang(stub.OpCreate, everyID))
		for i := range 6 { // more than there are turns
			p.create(agent.NewWorkspace{Name: fmt.Sprintf("hangs-%d", i)})
		}
		waits := p.create(agent.NewWorkspace{Name: "waits"}) // has not begun
		time.Sleep(time.Second)

		began := time.Now()
		_, err = p.StopWorkspace(t.Context(), runs.ID)
		must(t, err, p.DeleteWorkspace(t.Context(), stopped.ID), p.DeleteWorkspace(t.Context(), waits.ID))
		p.wait(runs.ID, agent.StatusStopped)
		p.waitGone(stopped.ID)
		p.waitGone(waits.ID)
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestStop_OnTheWayUp_KeepsPreferences: a workspace that was not given its
// preferences yet is not asked for any.
func TestStop_OnTheWayUp_KeepsPreferences(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.wait(p.create(agent.NewWorkspace{Name: "demo", AutoSyncPrefs: true}).ID, agent.StatusRunning)
		must(t, p.rt.WriteFile(t.Context(), ws.ID, ".gitconfig", []byte("old")))
		_, err := p.StopWorkspace(t.Context(), ws.ID)
		must(t, err)
		p.wait(ws.ID, agent.StatusStopped)
		preferenceFor(t, p)
		w.hooks.set(hang(stub.OpHealthy, everyID))
		_, err = p.StartWorkspace(t.Context(), ws.ID)
		must(t, err)
		time.Sleep(time.Second)
		_, err = p.StopWorkspace(t.Context(), ws.ID)
		must(t, err)
		p.wait(ws.ID, agent.StatusStopped)
		if pref, err := p.Preference(t.Context(), agent.PreferenceGit); err != nil || pref.Blob != "mine" {
			t.Errorf("preference: %+v, %v", pref, err)
		}
	})
}

// TestError_NothingRuns: when the row says error, the container is stopped
// already, its log is there, and every way out is open.
func TestError_NothingRuns(t *testing.T) {
	for name, leave := range map[string]func(p *plane, id string) error{
		"start":  func(p *plane, id string) error { _, err := p.StartWorkspace(p.t.Context(), id); return err },
		"stop":   func(p *plane, id string) error { _, err := p.StopWorkspace(p.t.Context(), id); return err },
		"delete": func(p *plane, id string) error { return p.DeleteWorkspace(p.t.Context(), id) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := w.live(t)
				w.hooks.set(fail(stub.OpHealthy, errors.New("connection refused")))
				ws := p.wait(p.create(agent.NewWorkspace{Name: "demo"}).ID, agent.StatusError)
				if status, _ := p.rt.Status(t.Context(), ws.ID); status != agent.ContainerStopped {
					t.Errorf("container: %s", status)
				}
				var said logBuffer
				if err := p.Logs(t.Context(), ws.ID, 10, false, &said); err != nil || said.String() == "" {
					t.Errorf("log: %q, %v", &said, err)
				}

				w.hooks.set(nil)
				must(t, leave(p, ws.ID))
				switch name {
				case "start":
					p.wait(ws.ID, agent.StatusRunning)
				case "stop":
					if got := p.wait(ws.ID, agent.StatusStopped); got.ErrorMessage != "" {
						t.Errorf("stopped: %+v", got)
					}
				case "delete":
					p.waitGone(ws.ID)
				}
			})
		})
	}
}

// TestError_ReconcileStops: a container that runs although its workspace is in
// error, as a crash in between leaves it, is stopped; the row keeps what it
// says.
func TestError_ReconcileStops(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.created("demo")
		must(t, p.db.Update(t.Context(), func(tx agent.Tx) error {
			rec, err := tx.Workspace(ws.ID)
			rec.Status, rec.ErrorMessage, rec.Address = agent.StatusError, "It broke.", ""
			return errors.Join(err, tx.UpdateWorkspace(rec))
		}))
		eventually(t, "the container is stopped", func() bool {
			status, _ := p.rt.Status(t.Context(), ws.ID)
			return status == agent.ContainerStopped
		})
		time.Sleep(time.Minute)
		if got, err := p.Workspace(t.Context(), ws.ID); err != nil || got.Status != agent.StatusError || got.ErrorMessage != "It broke." {
			t.Errorf("workspace: %+v, %v", got, err)
		}
	})
}

// TestRunner_TakesRuntimeDown: a job at whose work the runtime goes away each
// time, and comes back, ends; so do the others' waits.
func TestRunner_TakesRuntimeDown(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		gone := agent.Errorf(agent.CodeUnavailable, "Podman does not answer. The work goes on when it does.")
		var mu sync.Mutex
		down := time.Time{} // until when
		tries := 0
		w.hooks.set(func(_ context.Context, c stub.Call) error {
			mu.Lock()
			defer mu.Unlock()
			if c.Op == stub.OpCreate && !c.After && time.Now().After(down) {
				tries++
				down = time.Now().Add(10 * time.Second)
			}
			if time.Now().Before(down) {
				return gone
			}
			return nil
		})
		p := w.live(t)
		ws := p.wait(p.create(agent.NewWorkspace{Name: "demo"}).ID, agent.StatusError)
		if want := "Preparing the container failed: what runs the containers went away at it, as it did before."; ws.ErrorMessage != want {
			t.Errorf("message: %q, want %q", ws.ErrorMessage, want)
		}
		if tries != 6 { // the first one may have been anybody's
			t.Errorf("%d tries", tries)
		}
	})
}

// TestProvision_OwnImage: an image in which no IDE starts is told at once, not
// after five attempts.
func TestProvision_OwnImage(t *testing.T) {
	for name, tt := range map[string]struct {
		silent bool
		want   string
	}{
		"ends at once": {false, `The program of the image "example/app" ended right after its start. The workspace's log says why.`},
		"is no IDE":    {true, `No IDE answered within 2m0s. An image for workspaces starts code-server on port 8080, which "example/app" did not.`},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				starts := 0
				w.hooks.set(func(_ context.Context, c stub.Call) error {
					switch {
					case c.Op == stub.OpStart && c.After:
						starts++
						if !tt.silent {
							w.rt.Kill(c.ID)
						}
					case c.Op == stub.OpHealthy && !c.After:
						return errors.New("connection reset")
					}
					return nil
				})
				p := w.live(t)
				ws := p.wait(p.create(agent.NewWorkspace{Name: "demo", Image: "example/app"}).ID, agent.StatusError)
				if ws.ErrorMessage != tt.want || starts != 1 {
					t.Errorf("%d starts, message %q, want %q", starts, ws.ErrorMessage, tt.want)
				}
			})
		})
	}
}

// TestProvision_CloneTakesTooLong: a clone that used up its time is not begun
// again.
func TestProvision_CloneTakesTooLong(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		w.hooks.set(hang(stub.OpClone, everyID))
		began := time.Now()
		ws := p.wait(p.create(agent.NewWorkspace{Name: "demo", RepositoryID: "a/b"}).ID, agent.StatusError)
		if took := time.Since(began); took > 31*time.Minute || ws.ErrorMessage != "Cloning the repository took too long." {
			t.Errorf("after %s: %q", took, ws.ErrorMessage)
		}
	})
}

// TestError_strayContainer: why a workspace is in error stays, also while the
// container that runs nevertheless cannot be stopped.
func TestError_strayContainer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.wait(p.create(agent.NewWorkspace{Name: "demo", RepositoryID: "https://git.invalid/a/b"}).ID, agent.StatusError)
		time.Sleep(time.Minute)
		var stops atomic.Int32
		w.hooks.set(func(_ context.Context, c stub.Call) error {
			if c.Op == stub.OpStop && !c.After {
				stops.Add(1)
				return errors.New("it does not stop")
			}
			return nil
		})
		must(t, w.rt.Start(t.Context(), ws.ID))
		for range 600 {
			time.Sleep(time.Second)
			now, err := p.Workspace(t.Context(), ws.ID)
			must(t, err)
			if now.Status != agent.StatusError || now.ErrorMessage != ws.ErrorMessage || ws.ErrorMessage == "" {
				t.Fatalf("after %d stops: %s, %q, want %q", stops.Load(), now.Status, now.ErrorMessage, ws.ErrorMessage)
			}
		}
		if stops.Load() < 2 {
			t.Errorf("it was stopped %d times", stops.Load())
		}
	})
}

// TestCreating_StopSurvivesKill: an agent that is killed between the request
// and the end of the attempt leaves both jobs; the next one does not begin the
// first again.
func TestCreating_StopSurvivesKill(t *testing.T) {
	for _, end := range []agent.JobKind{agent.JobStop, agent.JobDelete} {
		t.Run(string(end), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := w.live(t)
				w.hooks.set(hang(stub.OpStart, everyID))
				ws := p.create(agent.NewWorkspace{Name: "demo"})
				time.Sleep(time.Second)
				p.end()
				db, err := sqlite.Open(t.Context(), w.path)
				must(t, err)
				must(t, db.Update(t.Context(), func(tx agent.Tx) error {
					rec, err := tx.Workspace(ws.ID)
					if end == agent.JobStop {
						rec.Status = agent.StatusStopping
					}
					return errors.Join(err, tx.UpdateWorkspace(rec), tx.InsertJob(agent.Job{ID: "end", Kind: end, WorkspaceID: ws.ID, State: agent.JobQueued}))
				}), db.Close())

				begun := 0
				w.hooks.set(func(_ context.Context, c stub.Call) error {
					if c.Op == stub.OpCreate || c.Op == stub.OpStart {
						begun++
					}
					return nil
				})
				p = w.live(t)
				if end == agent.JobStop {
					p.wait(ws.ID, agent.StatusStopped)
				} else {
					p.waitGone(ws.ID)
				}
				if s := p.state(); begun != 0 || len(s.Jobs) != 0 {
					t.Errorf("%d calls for what is to end, jobs %v", begun, s.Jobs)
				}
			})
		})
	}
}
