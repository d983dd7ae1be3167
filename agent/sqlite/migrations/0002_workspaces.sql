-- Times are milliseconds since 1970, UTC. Absent texts are ''.

CREATE TABLE workspace (
    id            TEXT    NOT NULL PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    status        TEXT    NOT NULL CHECK (status IN ('creating', 'running', 'stopping', 'stopped', 'error')),
    image         TEXT    NOT NULL,
    description   TEXT    NOT NULL,
    repository_id TEXT    NOT NULL,
    auto_sync     INTEGER NOT NULL CHECK (auto_sync IN (0, 1)),
    address       TEXT    NOT NULL,
    error_message TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    slot          INTEGER NOT NULL UNIQUE CHECK (slot >= 0),
    loopback_port INTEGER NOT NULL UNIQUE CHECK (loopback_port BETWEEN 1024 AND 65535),
    cloned        INTEGER NOT NULL CHECK (cloned IN (0, 1))
) STRICT, WITHOUT ROWID;

-- The order of the list, newest first, and the key of its pages.
CREATE INDEX workspace_newest ON workspace (created_at DESC, id DESC);

CREATE TABLE port (
    workspace_id TEXT    NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    port         INTEGER NOT NULL CHECK (port BETWEEN 1024 AND 65535),
    label        TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, port)
) STRICT, WITHOUT ROWID;

CREATE TABLE preference (
    name       TEXT    NOT NULL PRIMARY KEY,
    blob       BLOB    NOT NULL, -- byte for byte, whatever it is
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Work that is not done. The number is the order in which jobs were stored;
-- clocks may jump.
CREATE TABLE job (
    seq          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id           TEXT    NOT NULL UNIQUE,
    workspace_id TEXT    NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    kind         TEXT    NOT NULL CHECK (kind IN ('create', 'start', 'stop', 'delete')),
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

CREATE INDEX job_of_workspace ON job (workspace_id, seq);

-- What the last job of a workspace did.
CREATE TABLE step (
    workspace_id TEXT    NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    position     INTEGER NOT NULL,
    job          TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    title        TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('running', 'done', 'failed')),
    started_at   INTEGER NOT NULL,
    ended_at     INTEGER NOT NULL, -- 0 while it runs
    message      TEXT    NOT NULL,
    PRIMARY KEY (workspace_id, position),
    UNIQUE (workspace_id, name)
) STRICT, WITHOUT ROWID;
