-- What a workspace's owner lets it use, in bytes. 0 is the default, which follows
-- the VM's size: it is not stored, so that it can follow.
ALTER TABLE workspace ADD COLUMN memory_bytes INTEGER NOT NULL DEFAULT 0 CHECK (memory_bytes >= 0);
ALTER TABLE workspace ADD COLUMN disk_bytes   INTEGER NOT NULL DEFAULT 0 CHECK (disk_bytes >= 0);

-- What the kernel ended because memory was used up, the last time, for the user.
ALTER TABLE workspace ADD COLUMN shortage    TEXT    NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN shortage_at INTEGER NOT NULL DEFAULT 0; -- 0 without one
