package sqlite

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rockpool/rootvm/agent"
)

// oldJobs fills a database of the second version: a workspace with a job in
// every state of every kind that it knew, and a number that was given out to a
// job that is gone.
const oldJobs = `
INSERT INTO workspace (id, name, status, image, description, repository_id, auto_sync, address, error_message, created_at, updated_at, slot, loopback_port, cloned)
VALUES ('w1', 'first', 'creating', 'i', '', '', 0, '', '', 1, 2, 0, 20000, 0),
       ('w2', 'second', 'error', 'i', '', '', 0, '', 'why', 1, 2, 1, 20001, 1);
INSERT INTO step (workspace_id, position, job, name, title, state, started_at, ended_at, message)
VALUES ('w1', 1, 'create', 'container', 'T', 'running', 5, 0, '');
INSERT INTO job (seq, id, workspace_id, kind, state, attempts, run_at, leased_until, lease_token, step, last_error, created_at, updated_at)
VALUES (3, 'parked', 'w2', 'start', 'parked', 5, 10, 0, '', 'clone', 'why', 11, 12),
       (5, 'leased', 'w1', 'create', 'leased', 1, 20, 900, 'life', 'container', '', 21, 22),
       (6, 'queued', 'w1', 'stop', 'queued', 0, 30, 0, '', '', '', 31, 32),
       (8, 'deletes', 'w2', 'delete', 'queued', 2, 40, 0, '', '', 'once more', 41, 42),
       (40, 'gone', 'w2', 'stop', 'queued', 0, 50, 0, '', '', '', 51, 52);
DELETE FROM job WHERE id = 'gone';
`

// oldDatabase makes a file of the first n versions and runs statements on it.
func oldDatabase(t *testing.T, n int, statements string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "a.db")
	db := mustOpen(t, path, embedded(t)[:n])
	if _, err := db.write.Exec(statements); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestMigrations/jobKinds: jobs of an older release keep everything, their
// order and the next number.
func TestMigrations_jobKinds(t *testing.T) {
	db := mustOpen(t, oldDatabase(t, 2, oldJobs), embedded(t))
	want := []agent.Job{
		{ID: "parked", WorkspaceID: "w2", Kind: agent.JobStart, State: agent.JobParked, Attempts: 5, RunAt: unstamp(10), Step: "clone", LastError: "why", CreatedAt: unstamp(11), UpdatedAt: unstamp(12)},
		{ID: "leased", WorkspaceID: "w1", Kind: agent.JobCreate, State: agent.JobLeased, Attempts: 1, RunAt: unstamp(20), LeasedUntil: unstamp(900), LeaseToken: "life", Step: "container", CreatedAt: unstamp(21), UpdatedAt: unstamp(22)},
		{ID: "queued", WorkspaceID: "w1", Kind: agent.JobStop, State: agent.JobQueued, RunAt: unstamp(30), CreatedAt: unstamp(31), UpdatedAt: unstamp(32)},
		{ID: "deletes", WorkspaceID: "w2", Kind: agent.JobDelete, State: agent.JobQueued, Attempts: 2, RunAt: unstamp(40), LastError: "once more", CreatedAt: unstamp(41), UpdatedAt: unstamp(42)},
	}
	err := db.View(t.Context(), func(tx agent.Tx) error {
		jobs, err := tx.Jobs("")
		if err != nil {
			return err
		}
		if !slices.Equal(jobs, want) {
			t.Errorf("jobs: %+v\nwant %+v", jobs, want)
		}

		steps, err := tx.Steps("w1")
		if len(steps) != 1 || steps[0].Name != "container" {
			t.Errorf("steps: %+v", steps)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	update(t, db, func(tx agent.Tx) error {
		return tx.InsertJob(agent.Job{ID: "new", WorkspaceID: "w1", Kind: "of a later release", Payload: `{"a":1}`, State: agent.JobQueued})
	})
	if seqs := numbers(t, db); !slices.Equal(seqs, []int{3, 5, 6, 8, 41}) {
		t.Errorf("numbers of the jobs: %v", seqs)
	}
}

// TestMigrations/jobKinds_integrity: the new table has the old one's rules, but
// that of the kinds.
func TestMigrations_jobKinds_integrity(t *testing.T) {
	for name, old := range map[string]string{"with jobs": oldJobs, "without": "", "with one that is gone": oldJobs + "DELETE FROM job"} {
		t.Run(name, func(t *testing.T) {
			db := mustOpen(t, oldDatabase(t, 2, old), embedded(t))
			var broken int
			if err := db.write.QueryRow("SELECT (SELECT count(*) FROM pragma_foreign_key_check) + (SELECT count(*) FROM sqlite_master WHERE name LIKE '%job_new%' OR sql LIKE '%job_new%') + (SELECT count(*) FROM sqlite_sequence WHERE name <> 'job')").Scan(&broken); err != nil || broken != 0 {
				t.Errorf("%d rows are left or broken, %v", broken, err)
			}

			const insert = "INSERT INTO job (id, workspace_id, kind, payload, state, attempts, run_at, leased_until, lease_token, step, last_error, created_at, updated_at) VALUES ('x', '%s', '%s', '%s', '%s', 0, 0, 0, '', '', '', 0, 0)"
			for _, values := range [][4]string{{"nobody", "stop", "", "queued"}, {"w1", "", "", "queued"}, {"w1", "stop", "{", "queued"}, {"w1", "stop", "", "done"}} {
				if _, err := db.write.Exec(fmt.Sprintf(insert, values[0], values[1], values[2], values[3])); err == nil {
					t.Errorf("a job with %q was stored", values)
				}
			}
			var indexes int
			if err := db.write.QueryRow("SELECT count(*) FROM sqlite_master WHERE type = 'index' AND name = 'job_of_workspace'").Scan(&indexes); err != nil || indexes != 1 {
				t.Errorf("%d indexes, %v", indexes, err)
			}
		})
	}
}

// numbers are the numbers of the stored jobs.
func numbers(t *testing.T, db *DB) (list []int) {
	t.Helper()
	err := db.inTx(t.Context(), func(tx *sql.Tx) (err error) {
		list, err = all(&rows{ctx: t.Context(), tx: tx}, "list numbers", func(s scanner) (n int, err error) { return n, s.Scan(&n) }, "SELECT seq FROM job ORDER BY seq")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestMigrations_limits: workspaces of an older release have the defaults, and
// no limit below none can be stored.
func TestMigrations_limits(t *testing.T) {
	db := mustOpen(t, oldDatabase(t, 4, `INSERT INTO workspace (id, name, status, image, description, repository_id, auto_sync, address, error_message, created_at, updated_at, slot, loopback_port, cloned)
VALUES ('w1', 'first', 'running', 'i', '', '', 0, 'a', '', 1, 2, 0, 20000, 1)`), embedded(t))
	err := db.View(t.Context(), func(tx agent.Tx) error {
		rec, err := tx.Workspace("w1")
		if rec.Name != "first" || rec.Limits != (agent.Limits{}) {
			t.Errorf("%+v", rec)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, column := range []string{"memory_bytes", "disk_bytes"} {
		if _, err := db.write.Exec("UPDATE workspace SET " + column + " = -1"); err == nil {
			t.Errorf("%s of less than nothing was stored", column)
		}
	}
}

// TestMigrations_imageDigest: of a workspace of an older release it is not known
// yet from which image it was made.
func TestMigrations_imageDigest(t *testing.T) {
	db := mustOpen(t, oldDatabase(t, 5, `INSERT INTO workspace (id, name, status, image, description, repository_id, auto_sync, address, error_message, created_at, updated_at, slot, loopback_port, cloned, memory_bytes, disk_bytes, shortage, shortage_at)
VALUES ('w1', 'first', 'running', 'i', '', '', 0, 'a', '', 1, 2, 0, 20000, 1, 7, 8, 's', 9)`), embedded(t))
	err := db.View(t.Context(), func(tx agent.Tx) error {
		rec, err := tx.Workspace("w1")
		if rec.ImageDigest != "" || rec.Limits != (agent.Limits{Memory: 7, Disk: 8}) || rec.Shortage.Message != "s" {
			t.Errorf("%+v", rec)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
