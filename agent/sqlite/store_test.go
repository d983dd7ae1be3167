package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// at is a time that can be stored.
func at(ms int64) time.Time { return time.UnixMilli(1_700_000_000_000 + ms).UTC() }

func wsID(n int) string { return fmt.Sprintf("%025d", n) }

func workspace(n int) agent.Workspace {
	return agent.Workspace{
		ID: wsID(n), Name: fmt.Sprintf("ws-%d", n), Status: agent.StatusCreating, Image: "i", Description: "ö\n", RepositoryID: "a/b",
		AutoSyncPrefs: n%2 == 0, Limits: agent.Limits{Memory: int64(n)}, CreatedAt: at(int64(n)), UpdatedAt: at(int64(n)),
	}
}

func update(t testing.TB, db *DB, f func(agent.Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func insert(t testing.TB, db *DB, n int) (rec agent.Record) {
	t.Helper()
	update(t, db, func(tx agent.Tx) (err error) {
		rec, err = tx.InsertWorkspace(workspace(n), nil)
		return err
	})
	return rec
}

func newDB(t testing.TB) *DB {
	t.Helper()
	db, err := Open(t.Context(), t.TempDir()+"/a.db")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestStore_Workspace(t *testing.T) {
	db := newDB(t)
	rec := insert(t, db, 2)
	if want := (agent.Record{Workspace: workspace(2), Slot: 0, Port: agent.FirstLoopbackPort}); rec != want {
		t.Errorf("inserted: %+v, want %+v", rec, want)
	}
	rec.Status, rec.Address, rec.ErrorMessage, rec.Cloned, rec.UpdatedAt = agent.StatusRunning, "127.0.0.1:1", "m", true, at(9)
	rec.ImageDigest, rec.Limits, rec.Shortage = "sha256:x", agent.Limits{Memory: 1 << 40, Disk: 3}, agent.Shortage{Message: "much", At: at(7)}
	update(t, db, func(tx agent.Tx) error { return tx.UpdateWorkspace(rec) })
	err := db.View(t.Context(), func(tx agent.Tx) error {
		got, err := tx.Workspace(rec.ID)
		if got != rec {
			t.Errorf("read: %+v, want %+v", got, rec)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for what, f := range map[string]func(agent.Tx) error{
		"read":   func(tx agent.Tx) error { _, err := tx.Workspace(wsID(3)); return err },
		"update": func(tx agent.Tx) error { return tx.UpdateWorkspace(agent.Record{Workspace: workspace(3)}) },
		"job":    func(tx agent.Tx) error { return tx.UpdateJob(agent.Job{ID: "x", State: agent.JobQueued}) },
	} {
		if err := db.Update(t.Context(), f); agent.ErrorCode(err) != agent.CodeNotFound {
			t.Errorf("%s of what is not there: %v", what, err)
		}
	}
	taken := workspace(3)
	taken.Name = rec.Name
	err = db.Update(t.Context(), func(tx agent.Tx) error { _, err := tx.InsertWorkspace(taken, nil); return err })
	if agent.ErrorCode(err) != agent.CodeConflict || err.Error() != `Workspace "ws-2" already exists` {
		t.Errorf("taken name: %v", err)
	}
	if err := db.View(t.Context(), func(tx agent.Tx) error { return tx.DeleteWorkspace(rec.ID) }); err == nil {
		t.Error("a view wrote")
	}
}

func TestStore_Slots(t *testing.T) {
	db := newDB(t)
	for n := range agent.MaxWorkspaces {
		if rec := insert(t, db, n); rec.Slot != n || rec.Port != agent.FirstLoopbackPort+n {
			t.Fatalf("slot %d, port %d of number %d", rec.Slot, rec.Port, n)
		}
	}
	err := db.Update(t.Context(), func(tx agent.Tx) error { _, err := tx.InsertWorkspace(workspace(999), nil); return err })
	if agent.ErrorCode(err) != agent.CodeConflict || err.Error() != "Maximum of 256 workspaces reached: delete one first" {
		t.Errorf("no slot is left: %v", err)
	}
	update(t, db, func(tx agent.Tx) error { return errors.Join(tx.DeleteWorkspace(wsID(7)), tx.DeleteWorkspace(wsID(3))) })
	for _, want := range []int{3, 7} {
		if rec := insert(t, db, 1000+want); rec.Slot != want {
			t.Errorf("slot %d, want the lowest that is free, %d", rec.Slot, want)
		}
	}
	update(t, db, func(tx agent.Tx) error { return errors.Join(tx.DeleteWorkspace(wsID(5)), tx.DeleteWorkspace(wsID(9))) })
	for taken, want := range map[int]int{5: 9, -1: 5} {
		update(t, db, func(tx agent.Tx) error {
			rec, err := tx.InsertWorkspace(workspace(2000), []int{taken})
			if err == nil && rec.Slot != want {
				t.Errorf("slot %d with %d taken, want %d", rec.Slot, taken, want)
			}
			return errors.Join(err, tx.DeleteWorkspace(wsID(2000)))
		})
	}
}

// TestStore_Update/atomic: what a transaction did before it failed is undone.
func TestStore_Update_atomic(t *testing.T) {
	db := newDB(t)
	stop := errors.New("stop")
	err := db.Update(t.Context(), func(tx agent.Tx) error {
		if _, err := tx.InsertWorkspace(workspace(1), nil); err != nil {
			return err
		}
		if err := tx.InsertJob(agent.Job{ID: "j", WorkspaceID: wsID(1), Kind: agent.JobCreate, State: agent.JobQueued}); err != nil {
			return err
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Errorf("error: %v", err)
	}
	_ = db.View(t.Context(), func(tx agent.Tx) error {
		jobs, err := tx.Jobs("")
		all, err2 := tx.Workspaces(agent.Cursor{}, 10)
		if err != nil || err2 != nil || len(jobs) != 0 || len(all) != 0 {
			t.Errorf("left: %v, %v, %v, %v", jobs, all, err, err2)
		}
		return nil
	})
	err = db.Update(t.Context(), func(tx agent.Tx) error {
		return tx.InsertJob(agent.Job{ID: "j", WorkspaceID: "nobody", Kind: agent.JobCreate, State: agent.JobQueued})
	})
	if err == nil {
		t.Error("a job without a workspace was stored")
	}
}

func TestStore_DeleteWorkspace_cascades(t *testing.T) {
	db := newDB(t)
	insert(t, db, 1)
	insert(t, db, 2)
	update(t, db, func(tx agent.Tx) error {
		var errs []error
		for _, id := range []string{wsID(1), wsID(2)} {
			errs = append(errs,
				tx.InsertPort(agent.Port{WorkspaceID: id, Port: 3000, Label: "web", CreatedAt: at(1)}),
				tx.InsertJob(agent.Job{ID: id, WorkspaceID: id, Kind: agent.JobStop, State: agent.JobQueued}),
				tx.PutStep(agent.Step{WorkspaceID: id, Job: agent.JobStop, Name: "a", State: agent.StepRunning}))
		}
		return errors.Join(append(errs, tx.DeleteWorkspace(wsID(1)))...)
	})
	err := db.View(t.Context(), func(tx agent.Tx) error {
		ports, err := tx.Ports("")
		jobs, err2 := tx.Jobs("")
		gone, err3 := tx.Steps(wsID(1))
		kept, err4 := tx.Steps(wsID(2))
		if len(ports) != 1 || len(jobs) != 1 || len(gone) != 0 || len(kept) != 1 || ports[0] != (agent.Port{WorkspaceID: wsID(2), Port: 3000, Label: "web", CreatedAt: at(1)}) {
			t.Errorf("left: %v, %v, %v, %v", ports, jobs, gone, kept)
		}
		return errors.Join(err, err2, err3, err4)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestStore_Preferences(t *testing.T) {
	db := newDB(t)
	for _, blob := range []string{"", "a\r\nö\x00\xff"} {
		want := agent.Preference{Name: agent.PreferenceGit, Blob: blob, UpdatedAt: at(1)}
		update(t, db, func(tx agent.Tx) error { return tx.PutPreference(want) })
		err := db.View(t.Context(), func(tx agent.Tx) error {
			got, err := tx.Preferences()
			if len(got) != 1 || got[0] != want {
				t.Errorf("preferences: %+v, want %+v", got, want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestStore_Steps(t *testing.T) {
	db := newDB(t)
	insert(t, db, 1)
	step := func(name string, s agent.StepState, ms int64) agent.Step {
		return agent.Step{WorkspaceID: wsID(1), Job: agent.JobCreate, Name: name, Title: "T", State: s, StartedAt: at(ms), EndedAt: at(ms + 1), Message: "m"}
	}
	want := []agent.Step{step("b", agent.StepDone, 5), step("a", agent.StepFailed, 2)}
	update(t, db, func(tx agent.Tx) error {
		err := errors.Join(tx.PutStep(step("b", agent.StepRunning, 1)), tx.PutStep(want[1]), tx.PutStep(want[0]))
		if got, _ := tx.Steps(wsID(1)); !slices.Equal(got, want) {
			t.Errorf("steps: %+v, want %+v", got, want)
		}
		// Another job begins anew.
		err = errors.Join(err, tx.InsertJob(agent.Job{ID: "j", WorkspaceID: wsID(1), Kind: agent.JobStop, State: agent.JobQueued}))
		if got, _ := tx.Steps(wsID(1)); len(got) != 0 {
			t.Errorf("steps: %+v", got)
		}
		return err
	})
}

// TestStore_NextJob: each case is the jobs that are stored, oldest first, and
// which one is next.
func TestStore_NextJob(t *testing.T) {
	queued := func(ws int, due int64) agent.Job {
		return agent.Job{WorkspaceID: wsID(ws), Kind: agent.JobStart, State: agent.JobQueued, RunAt: at(due)}
	}
	leased := func(ws int, until int64, token string) agent.Job {
		return agent.Job{WorkspaceID: wsID(ws), Kind: agent.JobStart, State: agent.JobLeased, LeasedUntil: at(until), LeaseToken: token}
	}
	parked := agent.Job{WorkspaceID: wsID(1), Kind: agent.JobStart, State: agent.JobParked}
	const now, horizon = 1000, 5000
	for name, tt := range map[string]struct {
		jobs []agent.Job
		want string
		wait time.Duration
	}{
		"none":                     {nil, "", 0},
		"due":                      {[]agent.Job{queued(1, now)}, "0", 0},
		"not yet":                  {[]agent.Job{queued(1, now+300), queued(2, now+200)}, "", 200 * time.Millisecond},
		"oldest first":             {[]agent.Job{queued(1, 5), queued(2, 1)}, "0", 0},
		"one at a time":            {[]agent.Job{leased(1, now+9, "other"), queued(1, 5)}, "", 9 * time.Millisecond},
		"behind one that waits":    {[]agent.Job{queued(1, now+50), queued(1, 5), queued(2, 5)}, "2", 0},
		"behind a parked one":      {[]agent.Job{parked, queued(1, 5)}, "1", 0},
		"parked":                   {[]agent.Job{parked}, "", 0},
		"lease of another":         {[]agent.Job{leased(1, now+1, "other")}, "", time.Millisecond},
		"lease of another, over":   {[]agent.Job{leased(1, now, "other")}, "0", 0},
		"own lease, over":          {[]agent.Job{leased(1, 0, "me"), queued(1, 0)}, "", 0},
		"clock set back":           {[]agent.Job{queued(1, now+horizon+1)}, "0", 0},
		"clock set back, a lease":  {[]agent.Job{leased(1, now+horizon+1, "other")}, "0", 0},
		"as far away as it may be": {[]agent.Job{queued(1, now+horizon)}, "", horizon * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			db := newDB(t)
			insert(t, db, 1)
			insert(t, db, 2)
			update(t, db, func(tx agent.Tx) error {
				for i, j := range tt.jobs {
					j.ID = fmt.Sprint(i)
					state := j.State
					j.State = agent.JobQueued // parked ones go when another comes
					if err := tx.InsertJob(j); err != nil {
						return err
					}
					tt.jobs[i] = j
					tt.jobs[i].State = state
				}
				for _, j := range tt.jobs {
					if err := tx.UpdateJob(j); err != nil {
						return err
					}
				}
				j, ok, wait, err := tx.NextJob(agent.JobQuery{Now: at(now), Horizon: horizon * time.Millisecond, Holder: "me"})
				if ok != (tt.want != "") || j.ID != tt.want || wait != tt.wait {
					t.Errorf("next: %q, %v, %s, want %q after %s", j.ID, ok, wait, tt.want, tt.wait)
				}
				return err
			})
		})
	}
}

// TestStore_NextJob_kinds: who asks for some kinds gets no other, and the jobs
// of a workspace stay in their order.
func TestStore_NextJob_kinds(t *testing.T) {
	db := newDB(t)
	insert(t, db, 1)
	insert(t, db, 2)
	update(t, db, func(tx agent.Tx) error {
		var errs []error
		for i, kind := range []agent.JobKind{agent.JobStart, agent.JobStop} {
			errs = append(errs, tx.InsertJob(agent.Job{ID: fmt.Sprint(i), WorkspaceID: wsID(1), Kind: kind, State: agent.JobQueued}))
		}
		return errors.Join(append(errs, tx.InsertJob(agent.Job{ID: "2", WorkspaceID: wsID(2), Kind: "of a later release", State: agent.JobQueued}))...)
	})
	for _, tt := range []struct {
		only, not []agent.JobKind
		want      string
	}{
		{nil, nil, "0"},
		{[]agent.JobKind{agent.JobCreate, agent.JobStart}, nil, "0"},
		{nil, []agent.JobKind{agent.JobCreate, agent.JobStart}, "2"}, // the stop is behind the start
		{[]agent.JobKind{agent.JobStop}, nil, ""},
	} {
		update(t, db, func(tx agent.Tx) error {
			j, ok, wait, err := tx.NextJob(agent.JobQuery{Now: at(1), Horizon: time.Second, Holder: "me", Only: tt.only, Not: tt.not})
			if ok != (tt.want != "") || j.ID != tt.want || wait != 0 {
				t.Errorf("only %q, not %q: %q, %v, %s, want %q", tt.only, tt.not, j.ID, ok, wait, tt.want)
			}
			return err
		})
	}
}

func TestStore_InsertJob_forgetsParked(t *testing.T) {
	db := newDB(t)
	insert(t, db, 1)
	update(t, db, func(tx agent.Tx) error {
		parked := agent.Job{ID: "old", WorkspaceID: wsID(1), Kind: agent.JobCreate, State: agent.JobQueued}
		err := tx.InsertJob(parked)
		parked.State, parked.LastError = agent.JobParked, "why"
		want := agent.Job{ID: "new", WorkspaceID: wsID(1), Kind: agent.JobStart, Payload: `{"a":[1]}`, State: agent.JobLeased, Attempts: 2, RunAt: at(1), LeasedUntil: at(2),
			LeaseToken: "t", Step: "s", LastError: "e", CreatedAt: at(3), UpdatedAt: at(4)}
		err = errors.Join(err, tx.UpdateJob(parked), tx.InsertJob(want))
		jobs, err2 := tx.Jobs(wsID(1))
		if len(jobs) != 1 || jobs[0] != want {
			t.Errorf("jobs: %+v, want %+v", jobs, want)
		}
		return errors.Join(err, err2)
	})
}

// fill stores n workspaces, more than there can be slots for, two of the same
// time each.
func fill(t testing.TB, db *DB, n int) {
	t.Helper()
	if err := db.inTx(t.Context(), func(tx *sql.Tx) error {
		for i := range n {
			_, err := tx.Exec("INSERT INTO workspace ("+workspaceColumns+") VALUES (?, ?, 'running', 'i', 'd', '', 0, '', '', ?, 0, ?, ?, 0, 0, 0, '', 0, '')",
				wsID(i), fmt.Sprintf("ws-%d", i), stamp(at(int64(i/2))), i, agent.FirstLoopbackPort+i)
			if err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestStore_Workspaces_pages(t *testing.T) {
	db := newDB(t)
	fill(t, db, 1000)
	var after agent.Cursor
	for want := 999; want >= 0; {
		var page []agent.Record
		err := db.View(t.Context(), func(tx agent.Tx) (err error) {
			page, err = tx.Workspaces(after, 7)
			return err
		})
		if err != nil || len(page) == 0 {
			t.Fatalf("page after %+v: %d, %v", after, len(page), err)
		}
		for _, rec := range page {
			if rec.ID != wsID(want) {
				t.Fatalf("%s, want number %d", rec.ID, want)
			}
			want--
		}
		last := page[len(page)-1]
		after = agent.Cursor{CreatedAt: last.CreatedAt, ID: last.ID}
	}
}

// TestStore_Workspaces_plan: a page is read from the index: neither a scan of
// the table nor a sort.
func TestStore_Workspaces_plan(t *testing.T) {
	db := newDB(t)
	res, err := db.read.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+newestSQL, 1, "", 26)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	var plan []string
	for res.Next() {
		var id, parent, unused int
		var detail string
		if err := res.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, detail)
	}
	if len(plan) != 1 || !strings.HasPrefix(plan[0], "SEARCH workspace USING INDEX workspace_newest (") {
		t.Errorf("plan: %q", plan)
	}
}

func TestStore_locked(t *testing.T) {
	db := newDB(t)
	other, err := sql.Open("sqlite3", db.path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exec := func(c interface {
		ExecContext(context.Context, string, ...any) (sql.Result, error)
	}, q string) {
		t.Helper()
		if _, err := c.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	exec(db.write, "PRAGMA busy_timeout = 50")
	exec(conn, "BEGIN IMMEDIATE")
	err = db.Update(t.Context(), func(tx agent.Tx) error { _, err := tx.InsertWorkspace(workspace(1), nil); return err })
	e, ok := errors.AsType[*agent.Error](err)
	if !ok || e.Code != agent.CodeUnavailable || e.Message != "The database is in use by another program. Try again in a moment." {
		t.Errorf("error: %v", err)
	}
	if err := db.View(t.Context(), func(tx agent.Tx) error { _, err := tx.Workspaces(agent.Cursor{}, 1); return err }); err != nil {
		t.Errorf("reading while another writes: %v", err)
	}
	exec(conn, "ROLLBACK")
	insert(t, db, 1)
}

// TestStore_full: a database that cannot grow says so and loses nothing.
func TestStore_full(t *testing.T) {
	db := newDB(t)
	insert(t, db, 1)
	var pages int
	if err := db.write.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	limit := func(n int) {
		t.Helper()
		if _, err := db.write.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	put := func(tx agent.Tx) error {
		return tx.PutPreference(agent.Preference{Name: agent.PreferenceGit, Blob: strings.Repeat("x", 1<<20)})
	}
	limit(pages)
	err := db.Update(t.Context(), put)
	e, ok := errors.AsType[*agent.Error](err)
	if !ok || e.Code != agent.CodeNoSpace || e.Message != "The disk of the VM is full: free some space, then try again." {
		t.Errorf("error: %v", err)
	}
	if err := db.View(t.Context(), func(tx agent.Tx) error { _, err := tx.Workspace(wsID(1)); return err }); err != nil {
		t.Errorf("what was there: %v", err)
	}
	limit(pages + 1000)
	update(t, db, put)
}

func BenchmarkStore_Workspaces1000(b *testing.B) {
	db := newDB(b)
	fill(b, db, 1000)
	for name, limit := range map[string]int{"page of 25": 26, "all": 1000} {
		b.Run(name, func(b *testing.B) {
			middle := agent.Cursor{CreatedAt: at(250), ID: wsID(500)}
			if limit == 1000 {
				middle = agent.Cursor{}
			}
			for b.Loop() {
				err := db.View(b.Context(), func(tx agent.Tx) error {
					page, err := tx.Workspaces(middle, limit)
					if len(page) != limit {
						b.Errorf("%d rows", len(page))
					}
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
