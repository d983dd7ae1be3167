package sqlite

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rockpool/rootvm/agent"
)

const jobColumns = "id, workspace_id, kind, payload, state, attempts, run_at, leased_until, lease_token, step, last_error, created_at, updated_at"

func scanJob(s scanner) (j agent.Job, err error) {
	var runAt, leased, created, updated int64
	err = s.Scan(&j.ID, &j.WorkspaceID, &j.Kind, &j.Payload, &j.State, &j.Attempts, &runAt, &leased, &j.LeaseToken, &j.Step, &j.LastError, &created, &updated)
	j.RunAt, j.LeasedUntil, j.CreatedAt, j.UpdatedAt = unstamp(runAt), unstamp(leased), unstamp(created), unstamp(updated)
	return j, err
}

// InsertJob implements [agent.JobRows].
func (r *rows) InsertJob(j agent.Job) error {
	if _, err := r.exec("forget parked jobs", "DELETE FROM job WHERE workspace_id = ? AND state = 'parked'", j.WorkspaceID); err != nil {
		return err
	}
	if err := r.ClearSteps(j.WorkspaceID); err != nil {
		return err
	}
	_, err := r.exec("insert job", "INSERT INTO job ("+jobColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		j.ID, j.WorkspaceID, j.Kind, j.Payload, j.State, j.Attempts, stamp(j.RunAt), stamp(j.LeasedUntil), j.LeaseToken, j.Step, j.LastError, stamp(j.CreatedAt), stamp(j.UpdatedAt))
	return err
}

// UpdateJob implements [agent.JobRows].
func (r *rows) UpdateJob(j agent.Job) error {
	n, err := r.exec("update job", "UPDATE job SET state = ?, attempts = ?, run_at = ?, leased_until = ?, lease_token = ?, step = ?, last_error = ?, updated_at = ? WHERE id = ?",
		j.State, j.Attempts, stamp(j.RunAt), stamp(j.LeasedUntil), j.LeaseToken, j.Step, j.LastError, stamp(j.UpdatedAt), j.ID)
	if err == nil && n == 0 {
		return agent.Errorf(agent.CodeNotFound, "Job %q not found", j.ID)
	}
	return err
}

// DeleteJob implements [agent.JobRows].
func (r *rows) DeleteJob(id string) error {
	_, err := r.exec("delete job", "DELETE FROM job WHERE id = ?", id)
	return err
}

// Jobs implements [agent.JobRows].
func (r *rows) Jobs(workspaceID string) ([]agent.Job, error) {
	return all(r, "list jobs", scanJob, "SELECT "+jobColumns+" FROM job WHERE ?1 = '' OR workspace_id = ?1 ORDER BY seq", workspaceID)
}

// candidates are the jobs somebody could lease when their time comes: the
// oldest of each workspace, unless it is parked or the asker's own. due is the
// time from which on.
const candidates = `WITH candidate AS (
	SELECT *, CASE state WHEN 'queued' THEN run_at ELSE leased_until END AS due FROM job
	WHERE (state = 'queued' OR state = 'leased' AND lease_token <> :holder)
	AND NOT EXISTS (SELECT 1 FROM job AS older WHERE older.workspace_id = job.workspace_id AND older.seq < job.seq AND older.state <> 'parked')
	AND (:only IS NULL OR kind IN (SELECT value FROM json_each(:only))) AND kind NOT IN (SELECT value FROM json_each(:not))
) `

// jsonList is a list of kinds for SQLite's json_each, NULL without any.
func jsonList(kinds []agent.JobKind) (sql.NullString, error) {
	if len(kinds) == 0 {
		return sql.NullString{}, nil
	}
	b, err := json.Marshal(kinds)
	return sql.NullString{String: string(b), Valid: true}, err
}

// NextJob implements [agent.JobRows].
func (r *rows) NextJob(q agent.JobQuery) (agent.Job, bool, time.Duration, error) {
	now, far := stamp(q.Now), stamp(q.Now.Add(q.Horizon))
	only, onlyErr := jsonList(q.Only)
	not, notErr := jsonList(q.Not)
	if err := errors.Join(onlyErr, notErr); err != nil {
		return agent.Job{}, false, 0, fmt.Errorf("look for a job: %w", err)
	}
	asked := []any{sql.Named("holder", q.Holder), sql.Named("only", only), sql.Named("not", not)}

	j, err := scanJob(r.tx.QueryRowContext(r.ctx, candidates+"SELECT "+jobColumns+" FROM candidate WHERE due <= :now OR due > :far ORDER BY seq LIMIT 1",
		append(asked, sql.Named("now", now), sql.Named("far", far))...))
	if err == nil {
		return j, true, 0, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return agent.Job{}, false, 0, fmt.Errorf("look for a job: %w", err)
	}
	var next sql.NullInt64
	if err := r.tx.QueryRowContext(r.ctx, candidates+"SELECT min(due) FROM candidate", asked...).Scan(&next); err != nil {
		return agent.Job{}, false, 0, fmt.Errorf("look for the next job: %w", err)
	}
	if !next.Valid {
		return agent.Job{}, false, 0, nil
	}
	return agent.Job{}, false, time.Duration(next.Int64-now) * time.Millisecond, nil
}

// PutStep implements [agent.StepRows].
func (r *rows) PutStep(s agent.Step) error {
	_, err := r.exec("store step", `INSERT INTO step (workspace_id, position, job, name, title, state, started_at, ended_at, message)
		VALUES (?1, (SELECT coalesce(max(position), 0) + 1 FROM step WHERE workspace_id = ?1), ?2, ?3, ?4, ?5, ?6, ?7, ?8)
		ON CONFLICT (workspace_id, name) DO UPDATE SET job = excluded.job, title = excluded.title, state = excluded.state,
			started_at = excluded.started_at, ended_at = excluded.ended_at, message = excluded.message`,
		s.WorkspaceID, s.Job, s.Name, s.Title, s.State, stamp(s.StartedAt), stamp(s.EndedAt), s.Message)
	return err
}

// ClearSteps implements [agent.StepRows].
func (r *rows) ClearSteps(workspaceID string) error {
	_, err := r.exec("forget steps", "DELETE FROM step WHERE workspace_id = ?", workspaceID)
	return err
}

// Steps implements [agent.StepRows].
func (r *rows) Steps(workspaceID string) ([]agent.Step, error) {
	return all(r, "list steps", func(s scanner) (st agent.Step, err error) {
		var started, ended int64
		err = s.Scan(&st.WorkspaceID, &st.Job, &st.Name, &st.Title, &st.State, &started, &ended, &st.Message)
		st.StartedAt, st.EndedAt = unstamp(started), unstamp(ended)
		return st, err
	}, "SELECT workspace_id, job, name, title, state, started_at, ended_at, message FROM step WHERE workspace_id = ? ORDER BY position", workspaceID)
}
