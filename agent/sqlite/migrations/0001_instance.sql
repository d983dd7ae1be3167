-- One row for each fact about this installation.
CREATE TABLE instance (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- When the database was made, for a person who looks at a backup.
INSERT INTO instance (key, value) VALUES ('createdAt', strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));
