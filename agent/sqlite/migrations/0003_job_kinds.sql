-- The table of jobs without a list of their kinds, which the control plane
-- alone knows, and with the arguments of a job. SQLite cannot drop a check: the
-- table is made anew, with the numbers of its rows and of the next one.
CREATE TABLE job_new (
    seq          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id           TEXT    NOT NULL UNIQUE,
    workspace_id TEXT    NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    kind         TEXT    NOT NULL CHECK (kind <> ''),
    payload      TEXT    NOT NULL CHECK (payload = '' OR json_valid(payload)), -- arguments, '' for none, never a secret
    state        TEXT    NOT NULL CHECK (state IN ('queued', 'leased', 'parked')),
    attempts     INTEGER NOT NULL,
    run_at       INTEGER NOT NULL,
    leased_until INTEGER NOT NULL, -- 0 unless leased
    lease_token  TEXT    NOT NULL, -- '' unless leased
    step         TEXT    NOT NULL,
    last_error   TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL
) STRICT;

INSERT INTO job_new (seq, id, workspace_id, kind, payload, state, attempts, run_at, leased_until, lease_token, step, last_error, created_at, updated_at)
SELECT seq, id, workspace_id, kind, '', state, attempts, run_at, leased_until, lease_token, step, last_error, created_at, updated_at FROM job;

-- A number that was given out once is never given out again.
DELETE FROM sqlite_sequence WHERE name = 'job_new';
INSERT INTO sqlite_sequence (name, seq) SELECT 'job_new', seq FROM sqlite_sequence WHERE name = 'job';

DROP TABLE job;
ALTER TABLE job_new RENAME TO job;

CREATE INDEX job_of_workspace ON job (workspace_id, seq);
