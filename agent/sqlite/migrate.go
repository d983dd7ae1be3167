package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// applicationID marks our files, so that a foreign database is not migrated:
// "RkPl" in the header's field for it.
const applicationID = 0x526b506c

// migration is one step forward. The database's version, its user_version,
// is the number of the last one applied.
type migration struct {
	name string
	sql  string
}

// embeddedMigrations returns the files NNNN_title.sql in order; they are
// numbered from 1 without a gap.
func embeddedMigrations() ([]migration, error) {
	entries, err := fs.ReadDir(migrationFiles, "migrations")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	list := make([]migration, 0, len(entries))
	for i, e := range entries {
		n, err := strconv.Atoi(e.Name()[:4])
		if err != nil || n != i+1 {
			return nil, fmt.Errorf("migration %s is not number %d", e.Name(), i+1)
		}
		b, err := migrationFiles.ReadFile("migrations/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		list = append(list, migration{name: e.Name(), sql: string(b)})
	}
	return list, nil
}

// migrate applies what is missing, each migration and its version number in
// one transaction.
func (db *DB) migrate(ctx context.Context, list []migration) error {
	version, err := db.version(ctx)
	if err != nil {
		return err
	}
	switch {
	case version > len(list):
		return unusablef("database %s has version %d, this agent knows up to %d: it was written by a newer release; boot an image of that release, or restore an older backup", db.path, version, len(list))
	case version == len(list):
		return nil
	case version > 0:
		if err := db.backupBefore(ctx, version); err != nil {
			return err
		}
	}
	for i := version; i < len(list); i++ {
		if err := db.apply(ctx, i+1, list[i]); err != nil {
			return fmt.Errorf("migration %s: %w", list[i].name, err)
		}
	}
	return nil
}

// version reads the version, 0 for an empty file, and refuses databases that
// somebody else made.
func (db *DB) version(ctx context.Context) (int, error) {
	var id, version, tables int
	for _, q := range []struct {
		sql string
		to  *int
	}{
		{"PRAGMA application_id", &id},
		{"PRAGMA user_version", &version},
		{"SELECT count(*) FROM sqlite_master", &tables},
	} {
		if err := db.write.QueryRowContext(ctx, q.sql).Scan(q.to); err != nil {
			return 0, fmt.Errorf("read version: %w", err)
		}
	}
	if tables == 0 {
		return 0, nil
	}
	if id != applicationID {
		return 0, unusablef("database %s was not made by the Rockpool agent: move the file away to start empty", db.path)
	}
	return version, nil
}

// backupBefore keeps a copy of the version that is about to be changed; a copy
// left by an earlier attempt is replaced, for work may have gone on since.
func (db *DB) backupBefore(ctx context.Context, version int) error {
	path := fmt.Sprintf("%s.v%d.backup", db.path, version)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("replace old backup: %w", err)
	}
	return db.Backup(ctx, path)
}

func (db *DB) apply(ctx context.Context, version int, m migration) error {
	return db.inTx(ctx, func(tx *sql.Tx) error {
		for _, stmt := range []string{
			m.sql,
			fmt.Sprintf("PRAGMA application_id = %d", applicationID),
			fmt.Sprintf("PRAGMA user_version = %d", version),
		} {
			if _, err := tx.ExecContext(ctx, stmt); err != nil {
				return err
			}
		}
		return nil
	})
}

// inTx runs f in a write transaction: committed when f returns nil, and
// otherwise as if it had not been.
func (db *DB) inTx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	if err := f(tx); err != nil {
		return errors.Join(err, rollback(tx))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}

func rollback(tx *sql.Tx) error {
	if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}
