-- The image that a workspace's files belong to: it stays on it when the VM carries
-- another. A workspace of an earlier release learns its own with its next start.
ALTER TABLE workspace ADD COLUMN image_digest TEXT NOT NULL DEFAULT '';
