package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent/sqlite"
)

// standard is the name of standard input or output.
const standard = "-"

func (p *program) backupCommand() *cobra.Command {
	return p.fileCommand("backup", "copy the database to a file, also while it is in use", backup)
}

func (p *program) restoreCommand() *cobra.Command {
	return p.fileCommand("restore", "replace the database by a backup, while the agent is stopped", restore)
}

// fileCommand is a command with the database's flag and the name of one file.
func (p *program) fileCommand(verb, usage string, run func(ctx context.Context, database, file string, s streams) error) *cobra.Command {
	var database string
	c := &cobra.Command{
		Use:   verb + " FILE",
		Short: usage,
		Args: func(_ *cobra.Command, words []string) error {
			if len(words) != 1 {
				return usageError{fmt.Errorf("name one file, or %s", standard)}
			}
			return nil
		},
		RunE: func(c *cobra.Command, words []string) error { return run(c.Context(), database, words[0], p.streams) },
	}
	envFlags{c.Flags(), p.env}.text(&database, "database", "ROCKPOOL_DATABASE", defaultDatabase, "SQLite file")
	return c
}

// backup writes a copy of the database, which may be in use, to a file that
// must not exist, or to standard output. The file has its name only once it is
// whole.
func backup(ctx context.Context, database, file string, s streams) error {
	if file == standard {
		return writeBackup(ctx, database, s)
	}
	if exists(file) {
		return fmt.Errorf("back up: %w", &fs.PathError{Op: "create", Path: file, Err: fs.ErrExist})
	}
	partial := file + partialSuffix
	if err := os.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) { // of one that was killed
		return fmt.Errorf("back up: %w", err)
	}
	out, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}

	to := s
	to.out = out
	err = errors.Join(writeBackup(ctx, database, to), out.Sync(), out.Close())
	if err == nil {
		err = nameWhole(partial, file)
	}
	if err == nil {
		err = sqlite.Sync(filepath.Dir(file))
	}
	if err != nil {
		return errors.Join(err, removeIfThere(partial))
	}
	_, err = fmt.Fprintf(s.out, "the database is backed up to %s. It holds the list of workspaces; their files are in the container storage.\n", file)
	return err
}

// nameWhole gives a file that is whole its name, which nothing has.
func nameWhole(partial, file string) error {
	err := unix.Renameat2(unix.AT_FDCWD, partial, unix.AT_FDCWD, file, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // a shared directory over 9p cannot refuse: the look at the beginning has to do
		return os.Rename(partial, file)
	}
	return err
}

// partialSuffix ends the name of a backup that is not whole, and backupPrefix
// begins that of the directory in which the copy is made.
const (
	partialSuffix = ".partial"
	backupPrefix  = ".backup-"
)

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeBackup copies the database to s.out, as the agent's user. Backups are
// made one after the other: whoever makes one knows that what an earlier one
// left was killed.
func writeBackup(ctx context.Context, database string, s streams) error {
	if needsAgentUser(database) {
		return asAgentUser(ctx, s, "backup", "--database", database, standard)
	}
	if _, err := os.Stat(database); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	turn := flock.New(database + backupLock)
	if _, err := turn.TryLockContext(ctx, backupTurn); err != nil {
		return fmt.Errorf("back up: wait for another backup: %w", err)
	}
	defer func() { _ = turn.Close() }()
	if err := removeKilledBackups(database); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(database), backupPrefix)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return errors.Join(copyBackup(ctx, database, filepath.Join(dir, "copy.db"), s.out), os.RemoveAll(dir))
}

// backupLock ends the name of the file that is locked while a backup is made,
// and backupTurn is how often one that waits looks.
const (
	backupLock = ".backup.lock"
	backupTurn = 100 * time.Millisecond
)

// removeKilledBackups removes what backups that were killed left beside the
// database. The caller holds the lock on backups.
func removeKilledBackups(database string) error {
	left, err := filepath.Glob(filepath.Join(filepath.Dir(database), backupPrefix+"*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// sweepBackups does the same when no backup is being made.
func sweepBackups(database string) error {
	turn := flock.New(database + backupLock)
	free, err := turn.TryLock()
	if err != nil || !free {
		return err
	}
	return errors.Join(removeKilledBackups(database), turn.Close())
}

// copyBackup makes a consistent copy at tmp and writes it to w.
func copyBackup(ctx context.Context, database, tmp string, w io.Writer) error {
	db, err := sqlite.Open(ctx, database)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Backup(ctx, tmp), db.Close()); err != nil {
		return err
	}
	f, err := os.Open(tmp)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	defer f.Close()
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

// restore replaces the database by a backup, from a file or standard input.
// The old one is kept beside it.
func restore(ctx context.Context, database, file string, s streams) error {
	from := s
	if file != standard {
		in, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		defer in.Close()
		from.in = in
	}

	if needsAgentUser(filepath.Dir(database)) {
		return asAgentUser(ctx, from, "restore", "--database", database, standard)
	}
	unlock, err := lock(database + ".lock")
	if err != nil {
		return fmt.Errorf("%w (sudo systemctl stop rockpool-agent)", err)
	}
	defer unlock()
	old, err := replaceDatabase(ctx, database, from.in, time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "the database is restored%s. Start the agent: sudo systemctl start rockpool-agent\n", old)
	return err
}

// replaceDatabase puts what r holds in the place of the database and says
// where the old one is. Until r's content has been checked nothing changes,
// and when it fails before the last step the old database is in its place.
func replaceDatabase(ctx context.Context, database string, r io.Reader, now time.Time) (string, error) {
	re := &restoration{database: database, from: r, now: now}
	var err error
	for _, step := range re.steps() {
		if err = step(ctx); err != nil {
			break
		}
	}
	if err := errors.Join(err, re.clear(ctx)); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	if re.kept == "" {
		return "", nil
	}
	return "; the old one is kept at " + re.kept, nil
}

// restoration replaces a database that nobody uses. A power cut between any
// two of its steps, or within one, leaves the old or the new database in its
// place, and never a usable one without its log.
type restoration struct {
	database string // path
	from     io.Reader
	now      time.Time

	fresh string // where the new one is made
	kept  string // where the old one is kept, "" without one
}

func (r *restoration) steps() []func(context.Context) error {
	return []func(context.Context) error{r.clear, r.receive, r.fold, r.keep, r.dropLog, r.replace}
}

// The beginnings of the names of what a restoration makes, after the
// database's for the old one.
const (
	freshPrefix = ".restore-"
	keptInfix   = ".before-restore-"
)

// clear removes what a restoration leaves that did not come to its end: the
// directory of the new database, and a second name of the one in place, unless
// it has the only name of a log beside it.
func (r *restoration) clear(context.Context) error {
	dir, base := filepath.Split(r.database)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return err
	}
	current, _ := os.Stat(r.database)
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), freshPrefix):
			errs = append(errs, os.RemoveAll(path))
		case strings.HasPrefix(e.Name(), base+keptInfix) && !exists(path+"-wal"):
			if st, err := os.Stat(path); err == nil && current != nil && os.SameFile(st, current) {
				errs = append(errs, os.Remove(path))
			}
		}
	}
	return errors.Join(errs...)
}

// exists reports whether there is something at path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// receive makes the new database beside the old one.
func (r *restoration) receive(ctx context.Context) error {
	dir, err := os.MkdirTemp(filepath.Dir(r.database), freshPrefix)
	if err != nil {
		return err
	}
	r.fresh = filepath.Join(dir, "fresh.db")
	return checkBackup(ctx, r.fresh, r.from)
}

// fold makes the old database one file. One that is not usable is to be kept
// as it is, with its log.
func (r *restoration) fold(ctx context.Context) error {
	err := sqlite.Fold(ctx, r.database)
	if passes(err) || ctx.Err() != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	return nil
}

// companions are the ends of the names of the files that SQLite puts beside a
// database: https://sqlite.org/tempfiles.html. A database in whose place
// another is put must not leave it any: SQLite would take them for its own.
var companions = []string{"-wal", "-shm", "-journal"}

// keep gives the old database, and what is left beside it, a second name.
func (r *restoration) keep(context.Context) error {
	name := r.database + keptInfix + r.now.UTC().Format("20060102T150405Z")
	kept := name
	for n := 2; exists(kept) || exists(kept+"-wal"); n++ {
		kept = fmt.Sprintf("%s-%d", name, n)
	}
	for _, suffix := range append([]string{""}, companions...) {
		err := os.Link(r.database+suffix, kept+suffix)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case suffix == "":
			r.kept = kept
		}
	}
	return sqlite.Sync(filepath.Dir(r.database))
}

// dropLog removes what is beside the old database, which is something only
// when that is not usable, or not there.
func (r *restoration) dropLog(context.Context) error {
	for _, suffix := range companions {
		if err := os.Remove(r.database + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return sqlite.Sync(filepath.Dir(r.database))
}

// replace puts the new database in the place of the old one.
func (r *restoration) replace(context.Context) error {
	if err := os.Rename(r.fresh, r.database); err != nil {
		return err
	}
	return sqlite.Sync(filepath.Dir(r.database))
}

// checkBackup writes r to path and opens it as a database, which checks it
// and brings it to this program's version.
func checkBackup(ctx context.Context, path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if n == 0 {
		return errors.New("the backup is empty")
	}
	db, err := sqlite.Open(ctx, path)
	if err != nil {
		return fmt.Errorf("the backup cannot be used, nothing was changed: %w", err)
	}

	if err := db.Close(); err != nil {
		return err
	}
	if err := sqlite.Fold(ctx, path); err != nil { // the close did, or failed and did not tell
		return err
	}
	return sqlite.Sync(path)
}
