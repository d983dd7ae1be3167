package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/sqlite"
)

// store opens a database and makes it hold a workspace with this name.
func store(t *testing.T, path, name string) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx agent.Tx) error {
		_, err := tx.InsertWorkspace(agent.Workspace{ID: name, Name: name, Status: agent.StatusStopped, CreatedAt: time.Now()}, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// stored opens a database as the agent does, and returns the names of its
// workspaces.
func stored(t *testing.T, path string) []string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err) // opening would make it
	}
	db, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	err = db.View(t.Context(), func(tx agent.Tx) error {
		all, err := tx.Workspaces(agent.Cursor{}, 100)
		for _, w := range all {
			names = append(names, w.Name)
		}
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// backupOf returns a backup of a database with one workspace.
func backupOf(t *testing.T, name string) []byte {
	t.Helper()
	dir := t.TempDir()
	db := store(t, filepath.Join(dir, "a.db"), name)
	if err := errors.Join(db.Backup(t.Context(), filepath.Join(dir, "b.db")), db.Close()); err != nil {
		t.Fatal(err)
	}
	return content(t, filepath.Join(dir, "b.db"))
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// put writes files.
func put(t *testing.T, files map[string][]byte) {
	t.Helper()
	for path, b := range files {
		if err := os.WriteFile(path, b, 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// killed makes what a killed agent leaves: a database with a workspace that is
// in the log only.
func killed(t *testing.T, path, name string) {
	t.Helper()
	live := filepath.Join(t.TempDir(), "live.db")
	db := store(t, live, name)
	defer db.Close()
	files := map[string][]byte{path: content(t, live), path + "-wal": content(t, live+"-wal"), path + "-shm": content(t, live+"-shm")}
	if bytes.Contains(files[path], []byte(name)) || !bytes.Contains(files[path+"-wal"], []byte(name)) {
		t.Fatal("the workspace is not in the log only")
	}
	put(t, files)
}

// keptOnes are the databases that restorations of the one at path have kept.
func keptOnes(t *testing.T, path string) []string {
	t.Helper()
	all, err := filepath.Glob(path + ".before-restore-*")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(s string) bool {
		return slices.ContainsFunc(companions, func(c string) bool { return strings.HasSuffix(s, c) })
	})
}

var restoredAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// interrupted makes the first n steps of a restoration, and reports whether
// those are all.
func interrupted(t *testing.T, path string, from []byte, n int) (all bool) {
	t.Helper()
	r := &restoration{database: path, from: bytes.NewReader(from), now: restoredAt}
	steps := r.steps()
	for _, step := range steps[:n] {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return n == len(steps)
}

// TestRestoration_interrupted: whenever the power is cut, the agent finds the
// old database or the new one, whole, and the restoration can be made again.
func TestRestoration_interrupted(t *testing.T) {
	backup := backupOf(t, "new")
	for n, all := 0, false; !all; n++ {
		path := filepath.Join(t.TempDir(), "a.db")
		killed(t, path, "old")
		all = interrupted(t, path, backup, n)
		want := []string{"old"}
		if all {
			want = []string{"new"}
		}
		if got := stored(t, path); !slices.Equal(got, want) {
			t.Fatalf("after %d steps the database holds %q, want %q", n, got, want)
		}
		if err := store(t, path, "later").Close(); err != nil { // the agent goes on
			t.Fatal(err)
		}
		said, err := replaceDatabase(t.Context(), path, bytes.NewReader(backup), restoredAt)
		if err != nil {
			t.Fatalf("again after %d steps: %v", n, err)
		}
		if got := stored(t, path); !slices.Equal(got, []string{"new"}) {
			t.Errorf("again after %d steps: %q", n, got)
		}
		_, last, _ := strings.Cut(said, "kept at ")
		if got := stored(t, last); !slices.Equal(got, append([]string{"later"}, want...)) {
			t.Errorf("again after %d steps: %s holds %q", n, said, got)
		}
		kept := keptOnes(t, path)
		if all && (len(kept) != 2 || !slices.Equal(stored(t, kept[0]), []string{"old"})) || !all && len(kept) != 1 {
			t.Errorf("after %d steps and another restoration these are kept: %q", n, kept)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || left != nil {
			t.Errorf("after %d steps and another restoration these are left: %q, %v", n, left, err)
		}
	}
}

// TestRestoration_unusable: a database that is not usable is kept with its
// log, and no log is left for the new one.
func TestRestoration_unusable(t *testing.T) {
	backup := backupOf(t, "new")
	from := filepath.Join(t.TempDir(), "a.db")
	killed(t, from, "old")
	log := content(t, from+"-wal") // valid: SQLite would take it for the new database's
	garbage := []byte("garbage that is no database")
	for name, old := range map[string][]byte{"garbage": garbage, "no database": nil} {
		t.Run(name, func(t *testing.T) {
			for n, all := 0, false; !all; n++ {
				path := filepath.Join(t.TempDir(), "a.db")
				put(t, map[string][]byte{path + "-wal": log})
				if old != nil {
					put(t, map[string][]byte{path: old})
				}
				if all = interrupted(t, path, backup, n); !all {
					if old != nil && !bytes.Equal(content(t, path), old) {
						t.Fatalf("after %d steps the old database is not in its place", n)
					}
					if _, err := replaceDatabase(t.Context(), path, bytes.NewReader(backup), restoredAt); err != nil {
						t.Fatalf("again after %d steps: %v", n, err)
					}
				}
				if got := stored(t, path); !slices.Equal(got, []string{"new"}) {
					t.Errorf("after %d steps, and again: %q", n, got)
				}
				first := path + ".before-restore-20260102T030405Z"
				if !bytes.Equal(content(t, first+"-wal"), log) || old != nil && !bytes.Equal(content(t, first), old) {
					t.Errorf("after %d steps, and again: what is kept is not what was there", n)
				}
			}
		})
	}
}

// TestRestoration_inUse: while another program has the database open nothing
// changes.
func TestRestoration_inUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := store(t, path, "old")
	_, err := replaceDatabase(t.Context(), path, bytes.NewReader(backupOf(t, "new")), restoredAt)
	if err == nil || !strings.Contains(err.Error(), "nothing was changed") || !strings.Contains(err.Error(), "in use by another program") {
		t.Errorf("error: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, path); !slices.Equal(got, []string{"old"}) || keptOnes(t, path) != nil {
		t.Errorf("%q, kept %q", got, keptOnes(t, path))
	}
}

// TestBackup_Killed: what a backup that was killed leaves is gone after the
// next one, and after the agent's next start; no file that is not whole has a
// backup's name; one that is under way is left alone.
func TestBackup_Killed(t *testing.T) {
	dir := t.TempDir()
	database, file := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	db := store(t, database, "one")
	defer db.Close()
	leave := func() string {
		t.Helper()
		left, err := os.MkdirTemp(dir, backupPrefix)
		if err != nil {
			t.Fatal(err)
		}
		put(t, map[string][]byte{filepath.Join(left, "copy.db"): []byte("half"), file + partialSuffix: []byte("half")})
		return left
	}

	left := leave()
	var out buffer
	if err := backup(t.Context(), database, file, streams{out: &out, err: &out}); err != nil {
		t.Fatal(err)
	}
	if exists(left) || exists(file+partialSuffix) || !slices.Equal(stored(t, file), []string{"one"}) {
		t.Error("something is left, or the backup is not whole")
	}
	if err := backup(t.Context(), database, file, streams{out: &out, err: &out}); !errors.Is(err, os.ErrExist) {
		t.Errorf("over another backup: %v", err)
	}

	left = leave()
	turn := flock.New(database + backupLock)
	if _, err := turn.TryLock(); err != nil {
		t.Fatal(err)
	}
	if err := sweepBackups(database); err != nil || !exists(left) {
		t.Errorf("one that is under way was touched (%v)", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := backup(ctx, database, file+"2", streams{out: &out, err: &out}); err == nil || exists(file+"2") || exists(file+"2"+partialSuffix) {
		t.Errorf("two at once: %v", err)
	}
	if err := turn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := sweepBackups(database); err != nil || exists(left) {
		t.Errorf("what was left is still there (%v)", err)
	}
}
