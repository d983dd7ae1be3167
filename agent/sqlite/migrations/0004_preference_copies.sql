-- What is known of a preference's file in each workspace: the content that was
-- last pushed to it or taken from it, and what a person has to look at. A
-- workspace of an older release has no row: nothing is known of its files.
CREATE TABLE preference_copy (
    workspace_id TEXT    NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    base         BLOB,             -- byte for byte; NULL when nothing was ever pushed or taken
    note         TEXT    NOT NULL, -- '' when there is nothing to look at
    message      TEXT    NOT NULL,
    found        BLOB,             -- the file as it was when the note was made; NULL when there was none
    noted_at     INTEGER NOT NULL, -- 0 without a note
    PRIMARY KEY (workspace_id, name)
) STRICT;

-- Whether a person has seen what in the stored content can run a program.
-- Nobody was asked before this version.
ALTER TABLE preference ADD COLUMN seen INTEGER NOT NULL DEFAULT 0 CHECK (seen IN (0, 1));
