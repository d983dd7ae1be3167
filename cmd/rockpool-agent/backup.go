package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rockpool/rootvm/agent/sqlite"
)

// standard is the name of standard input or output.
const standard = "-"

// parseFile reads the database's flag and the name of one file.
func parseFile(command string, args []string, s streams, env func(string) string) (database, file string, err error) {
	set := newSettings(command, env)
	set.text(&database, "database", "ROCKPOOL_DATABASE", defaultDatabase, "SQLite file")
	words, err := parseMixed(set.FlagSet, args, s)
	switch {
	case err != nil:
		return "", "", err
	case len(words) != 1:
		return "", "", usageError{fmt.Errorf("name one file, or %s", standard)}
	}
	return database, words[0], nil
}

// backup writes a copy of the database, which may be in use, to a file that
// must not exist, or to standard output.
func backup(ctx context.Context, args []string, s streams, env func(string) string) error {
	database, file, err := parseFile("backup", args, s, env)
	if err != nil {
		return err
	}
	if file == standard {
		return writeBackup(ctx, database, s)
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	to := s
	to.out = out
	if err := errors.Join(writeBackup(ctx, database, to), out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	_, err = fmt.Fprintf(s.out, "the database is backed up to %s. It holds the list of workspaces; their files are in the container storage.\n", file)
	return err
}

// writeBackup copies the database to s.out, as the agent's user.
func writeBackup(ctx context.Context, database string, s streams) error {
	if needsAgentUser(database) {
		return asAgentUser(ctx, s, "backup", "-database", database, standard)
	}
	if _, err := os.Stat(database); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(database), ".backup-")
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return errors.Join(copyBackup(ctx, database, filepath.Join(dir, "copy.db"), s.out), os.RemoveAll(dir))
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
func restore(ctx context.Context, args []string, s streams, env func(string) string) error {
	database, file, err := parseFile("restore", args, s, env)
	if err != nil {
		return err
	}
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
		return asAgentUser(ctx, from, "restore", "-database", database, standard)
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
// where the old one is. Until r's content has been checked nothing changes.
func replaceDatabase(ctx context.Context, database string, r io.Reader, now time.Time) (string, error) {
	dir, err := os.MkdirTemp(filepath.Dir(database), ".restore-")
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	fresh := filepath.Join(dir, "fresh.db")
	kept, err := "", checkBackup(ctx, fresh, r)
	if err == nil {
		kept, err = keepOld(database, now)
	}
	if err == nil {
		err = os.Rename(fresh, database)
	}
	if err == nil {
		err = syncDirectory(filepath.Dir(database))
	}
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	return kept, nil
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
	f, err = os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// keepOld moves the database out of the way, with the log that may hold its
// last changes, and says where it is.
func keepOld(database string, now time.Time) (string, error) {
	kept := database + ".before-restore-" + now.UTC().Format("20060102T150405Z")
	said := ""
	for _, suffix := range []string{"-shm", "-wal", ""} {
		err := os.Rename(database+suffix, kept+suffix)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", err
		default:
			said = "; the old one is kept at " + kept
		}
	}
	return said, nil
}

func syncDirectory(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
