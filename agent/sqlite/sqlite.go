// Package sqlite keeps the agent's state in one SQLite file. It owns that
// file, its -wal and -shm companions and the backups beside it; nothing else
// may write them. It imports only the domain.
//
// One connection writes, several read: SQLite has one writer anyway, and a
// pool of one waits in the order of arrival instead of failing with "locked".
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/rockpool/rootvm/agent"
)

const (
	busyTimeout = 5 * time.Second
	readers     = 4
	magic       = "SQLite format 3\x00" // https://sqlite.org/fileformat2.html, first 16 bytes
)

// ErrUnusable is in the chain of errors that another start will not cure: the
// file is corrupt, newer than this program, or not ours.
var ErrUnusable = errors.New("database not usable")

// unusable is an error text with ErrUnusable behind it.
type unusable struct{ text string }

func (e unusable) Error() string        { return e.text }
func (e unusable) Is(target error) bool { return target == ErrUnusable }

func unusablef(format string, args ...any) error {
	return unusable{fmt.Sprintf(format, args...)}
}

// passing returns the domain's code for a fault of the database that ends
// without anybody's touching the file: [agent.CodeUnavailable] while another
// program holds it, [agent.CodeNoSpace] while its disk is full. It returns ""
// for all others. A full disk also shows itself where SQLite makes the files
// beside the database, which it tells by the system's error.
func passing(err error) string {
	e, _ := errors.AsType[sqlite3.Error](err)
	full := func(target error) bool { return e.SystemErrno == target || errors.Is(err, target) }
	switch {
	case e.Code == sqlite3.ErrBusy, e.Code == sqlite3.ErrLocked:
		return agent.CodeUnavailable
	case e.Code == sqlite3.ErrFull, full(syscall.ENOSPC), full(syscall.EDQUOT):
		return agent.CodeNoSpace
	}
	return ""
}

// DB is an open database, migrated to this program's version.
type DB struct {
	path  string
	write *sql.DB
	read  *sql.DB
}

// Open opens the file at path, makes it when it is absent, checks it and
// brings it to this program's version. Before an older version is changed it
// is copied to <path>.v<version>.backup. On error nothing is left open, and
// a migration that did not finish has left no trace.
//
// Faults that pass by themselves are [agent.Error]s, as those of [agent.Store]
// are: trying again later is worth while.
func Open(ctx context.Context, path string) (*DB, error) {
	return OpenWithin(ctx, path, busyTimeout)
}

// OpenWithin is Open with another limit, to the millisecond, for how long a
// statement waits for a program that holds the database.
func OpenWithin(ctx context.Context, path string, busy time.Duration) (*DB, error) {
	migrations, err := embeddedMigrations()
	if err != nil {
		return nil, err
	}
	return open(ctx, path, busy, migrations)
}

func open(ctx context.Context, path string, busy time.Duration, migrations []migration) (*DB, error) {
	if err := checkFile(path); err != nil {
		return nil, explain(path, err)
	}
	db := &DB{path: path}
	var err error
	if db.write, err = connect(path, "rwc", 1, busy); err != nil {
		return nil, err
	}
	if db.read, err = connect(path, "ro", readers, busy); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := db.prepare(ctx, migrations); err != nil {
		_ = db.Close()
		return nil, explain(path, err)
	}
	return db, nil
}

// prepare checks the content before anything is written, then migrates. The
// first statement is where a corrupt file shows itself.
func (db *DB) prepare(ctx context.Context, migrations []migration) error {
	if err := db.quickCheck(ctx); err != nil {
		return err
	}
	if err := db.migrate(ctx, migrations); err != nil {
		return err
	}
	return db.Ping(ctx)
}

func (db *DB) quickCheck(ctx context.Context) error {
	var verdict string
	if err := db.write.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if verdict != "ok" {
		return unusablef("database %s is corrupt (%s): restore a backup, or move the file away to start empty", db.path, verdict)
	}
	return nil
}

// Ping returns nil when the database answers a query.
func (db *DB) Ping(ctx context.Context) error {
	var n int
	if err := db.read.QueryRowContext(ctx, "SELECT count(*) FROM instance").Scan(&n); err != nil {
		return fmt.Errorf("query database: %w", err)
	}
	return nil
}

// LastBoot returns the name of the machine's life that [DB.RememberBoot]
// stored last, "" before the first.
func (db *DB) LastBoot(ctx context.Context) (boot string, err error) {
	err = db.read.QueryRowContext(ctx, "SELECT value FROM instance WHERE key = 'boot'").Scan(&boot)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", storeError(fmt.Errorf("read the last boot: %w", err))
	}
	return boot, nil
}

// RememberBoot stores in which life of the machine the database is used.
func (db *DB) RememberBoot(ctx context.Context, boot string) error {
	const remember = "INSERT INTO instance (key, value) VALUES ('boot', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
	err := db.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, remember, boot)
		return err
	})
	if err != nil {
		return storeError(fmt.Errorf("remember the boot: %w", err))
	}
	return nil
}

// Close ends all connections; the last one folds the log into the file.
func (db *DB) Close() error {
	var errs []error
	for _, pool := range []*sql.DB{db.read, db.write} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

// Backup writes a consistent copy of the database to path, which must not
// exist, while others go on reading and writing. The copy is on the disk when
// Backup returns, or not there at all.
func (db *DB) Backup(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("back up database: %s exists already", path)
	}
	tmp := path + ".partial"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("back up database: %w", err)
	}
	if _, err := db.read.ExecContext(ctx, "VACUUM INTO ?", tmp); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("back up database to %s: %w", path, err)
	}
	if err := publish(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("back up database: %w", err)
	}
	return nil
}

// Fold brings what is in the log beside the file at path into the file, so
// that the file alone is the whole database, and removes the log. The content
// is neither checked nor migrated. Errors are those of [Open], and
// [fs.ErrNotExist] when there is no file; after an error nothing is lost. It
// fails as unavailable while another program has the database open, because
// that program shares the log.
func Fold(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("fold the log: %w", err)
	}
	if err := checkFile(path); err != nil {
		return explain(path, err)
	}
	pool, err := connect(path, "rw", 1, busyTimeout)
	if err != nil {
		return err
	}
	if err := errors.Join(checkpoint(ctx, pool), pool.Close()); err != nil {
		return explain(path, err)
	}
	if _, err := os.Lstat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		return explain(path, errors.Join(sqlite3.Error{Code: sqlite3.ErrBusy}, err))
	}
	return nil
}

// checkpoint does the work of Fold. Reading is what undoes a transaction that
// was cut off, in a database without a log.
func checkpoint(ctx context.Context, pool *sql.DB) error {
	var tables, busy, frames, moved int
	if err := pool.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := pool.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved); err != nil {
		return fmt.Errorf("fold the log: %w", err)
	}
	if busy != 0 {
		return sqlite3.Error{Code: sqlite3.ErrBusy}
	}
	return nil
}

// publish makes tmp durable under its final name.
func publish(tmp, path string) error {
	for _, step := range []func() error{
		func() error { return os.Chmod(tmp, 0o600) },
		func() error { return Sync(tmp) },
		func() error { return os.Rename(tmp, path) },
		func() error { return Sync(filepath.Dir(path)) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Sync makes a file's content, or a directory's entries, durable. Libraries that
// replace files do not serve here: SQLite writes these files itself, and what an
// interrupted attempt left must be found again by its name.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func connect(path, mode string, conns int, busy time.Duration) (*sql.DB, error) {
	query := url.Values{
		"mode":          {mode},
		"_busy_timeout": {fmt.Sprint(busy.Milliseconds())},
		"_foreign_keys": {"on"},
		"_synchronous":  {"full"}, // a committed workspace survives a power cut
	}
	if mode == "rwc" {
		query.Set("_journal_mode", "wal")
		query.Set("_txlock", "immediate")
	}
	pool, err := sql.Open("sqlite3", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	return pool, nil
}

// checkFile refuses what is certainly not a database, with words better than
// SQLite's, and makes the file private when it is new.
func checkFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("%w: the directory must exist and belong to the agent's user", err)
	}
	defer f.Close()
	head := make([]byte, len(magic))
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if n != 0 && string(head[:n]) != magic {
		return unusablef("database %s is corrupt (it does not begin like a SQLite file): restore a backup, or move the file away to start empty", path)
	}
	return nil
}

// explain turns SQLite's codes into one clear sentence, where it has one.
func explain(path string, err error) error {
	if e, ok := errors.AsType[sqlite3.Error](err); ok && (e.Code == sqlite3.ErrCorrupt || e.Code == sqlite3.ErrNotADB) {
		return unusablef("database %s is corrupt (%s): restore a backup, or move the file away to start empty", path, e.Error())
	}
	switch code := passing(err); code {
	case agent.CodeUnavailable:
		return fmt.Errorf("%w (%w)", agent.Errorf(code, "database %s is in use by another program", path), err)
	case agent.CodeNoSpace:
		return fmt.Errorf("%w (%w)", agent.Errorf(code, "database %s: no space left on its disk, free some", path), err)
	}
	if errors.Is(err, ErrUnusable) {
		return err
	}
	return fmt.Errorf("database %s: %w", path, err)
}
