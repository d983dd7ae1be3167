package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/rockpool/rootvm/agent"
)

func testPath(t *testing.T) string { return filepath.Join(t.TempDir(), "with space?#.db") }

func mustOpen(t *testing.T, path string, list []migration) *DB {
	t.Helper()
	db, err := open(t.Context(), path, busyTimeout, list)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func embedded(t *testing.T) []migration {
	t.Helper()
	list, err := embeddedMigrations()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func version(t *testing.T, db *DB) (v int) {
	t.Helper()
	if err := db.write.QueryRow("PRAGMA user_version").Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestOpen(t *testing.T) {
	path := testPath(t)
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "foreign_keys": "1", "synchronous": "2", "busy_timeout": "5000"} {
		for name, pool := range map[string]*sql.DB{"write": db.write, "read": db.read} {
			var got string
			if err := pool.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s on %s: %q, %v, want %s", pragma, name, got, err, want)
			}
		}
	}
	if _, err := db.read.Exec("DELETE FROM instance"); err == nil {
		t.Error("a reader wrote")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(t.Context()); err == nil {
		t.Error("a closed database answers")
	}
	db, err = Open(t.Context(), path) // nothing to migrate: no backup
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if m, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*.backup")); m != nil {
		t.Errorf("backups: %q", m)
	}
}

func TestOpen_unusable(t *testing.T) {
	valid := func(t *testing.T, path string) {
		db := mustOpen(t, path, embedded(t))
		if _, err := db.write.Exec("CREATE TABLE filler (b BLOB); INSERT INTO filler VALUES (randomblob(100000))"); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		make func(t *testing.T, path string)
		want string
	}{
		"not a database": {func(t *testing.T, path string) { write(t, path, []byte("hello, this is not it")) }, "corrupt (it does not begin"},
		"cut header":     {func(t *testing.T, path string) { write(t, path, []byte(magic[:9])) }, "corrupt"},
		"cut file": {func(t *testing.T, path string) {
			valid(t, path)
			if err := os.Truncate(path, 8192); err != nil {
				t.Fatal(err)
			}
		}, "corrupt"},
		"scribbled": {func(t *testing.T, path string) {
			valid(t, path)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			copy(b[100:], strings.Repeat("x", 4000))
			write(t, path, b)
		}, "corrupt"},
		"newer": {func(t *testing.T, path string) {
			list := embedded(t)
			mustOpen(t, path, append(list, migration{"9999_later.sql", "CREATE TABLE later (a)"})).Close()
		}, "written by a newer release"},
		"foreign": {func(t *testing.T, path string) {
			db, err := sql.Open("sqlite3", (&DB{path: path}).path)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.Exec("CREATE TABLE theirs (a)"); err != nil {
				t.Fatal(err)
			}
		}, "not made by the Rockpool agent"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.db")
			tt.make(t, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Open(t.Context(), path)
			if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error: %v, want %q", err, tt.want)
			}
			after, err := os.ReadFile(path)
			// The mode byte pair in the header may say WAL now, nothing else may differ.
			n := min(200, len(before))
			if err != nil || len(after) != len(before) || string(after[n:]) != string(before[n:]) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpen_noDirectory(t *testing.T) {
	_, err := Open(t.Context(), filepath.Join(t.TempDir(), "none", "a.db"))
	if err == nil || errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "directory must exist") {
		t.Errorf("error: %v", err)
	}
}

func TestOpen_migratesForward(t *testing.T) {
	path := testPath(t)
	list := embedded(t)
	db := mustOpen(t, path, list)
	if _, err := db.write.Exec("INSERT INTO instance VALUES ('k', 'kept')"); err != nil {
		t.Fatal(err)
	}
	first := version(t, db)
	db.Close()

	broken := append(list, migration{"9998_half.sql", "CREATE TABLE half (a); INSERT INTO half VALUES (1); INSERT INTO nowhere VALUES (1)"})
	if _, err := open(t.Context(), path, busyTimeout, broken); err == nil || errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "9998_half.sql") {
		t.Fatalf("error: %v", err)
	}
	db = mustOpen(t, path, list)
	if v := version(t, db); v != first {
		t.Errorf("version %d after a broken migration, want %d", v, first)
	}
	if _, err := db.write.Exec("SELECT * FROM half"); err == nil {
		t.Error("a broken migration left a table")
	}
	db.Close()

	db = mustOpen(t, path, append(list, migration{"9998_whole.sql", "CREATE TABLE whole (a)"}))
	if v := version(t, db); v != first+1 {
		t.Errorf("version %d, want %d", v, first+1)
	}
	db.Close()
	backup := mustOpen(t, fmt.Sprintf("%s.v%d.backup", path, first), list)
	var kept string
	if err := backup.read.QueryRow("SELECT value FROM instance WHERE key = 'k'").Scan(&kept); err != nil || kept != "kept" {
		t.Errorf("backup: %q, %v", kept, err)
	}
}

func TestOpen_cancelled(t *testing.T) {
	path := testPath(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	mustOpen(t, path, embedded(t))
}

func TestDB_Backup(t *testing.T) {
	db := mustOpen(t, testPath(t), embedded(t))
	if _, err := db.write.Exec("CREATE TABLE many (a)"); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy.db")
	write(t, to+".partial", []byte("of an attempt that was cut off"))
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 50 {
			if _, err := db.write.Exec("INSERT INTO many VALUES (1)"); err != nil {
				t.Error(err)
			}
		}
	})
	if err := db.Backup(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	mustOpen(t, to, embedded(t))
	if err := db.Backup(t.Context(), to); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("error: %v", err)
	}
}

func TestDB_RememberBoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	last := ""
	for _, boot := range []string{"one", "one", "two"} {
		db, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := db.LastBoot(t.Context()); err != nil || got != last {
			t.Errorf("the last boot: %q, %v, want %q", got, err, last)
		}
		if err := errors.Join(db.RememberBoot(t.Context(), boot), db.Close()); err != nil {
			t.Fatal(err)
		}
		last = boot
	}
}

// TestOpen_passing: what ends by itself is told apart from what does not, and
// afterwards the database opens as if nothing had been.
func TestOpen_passing(t *testing.T) {
	const small = "PRAGMA max_page_count = 1; CREATE TABLE big (a); INSERT INTO big VALUES (zeroblob(1000000)); PRAGMA max_page_count = 100000" // more than what earlier migrations freed
	for name, tt := range map[string]struct {
		list  []migration
		other []string // statements of another program
		code  string
		text  string
	}{
		"full":             {list: []migration{{"0003_big.sql", small}}, code: agent.CodeNoSpace, text: "no space left on its disk"},
		"held":             {other: []string{"PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"}, code: agent.CodeUnavailable, text: "in use by another program"},
		"held for writing": {list: []migration{{"0003_more.sql", "CREATE TABLE more (a)"}}, other: []string{"BEGIN IMMEDIATE"}, code: agent.CodeUnavailable, text: "in use by another program"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.db")
			mustOpen(t, path, embedded(t)).Close()
			other, err := sql.Open("sqlite3", path)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			other.SetMaxOpenConns(1)
			for _, s := range tt.other {
				if _, err := other.Exec(s); err != nil {
					t.Fatal(err)
				}
			}
			_, err = open(t.Context(), path, 20*time.Millisecond, append(embedded(t), tt.list...))
			if agent.ErrorCode(err) != tt.code || errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error: %v (%s), want %q (%s)", err, agent.ErrorCode(err), tt.text, tt.code)
			}
			if err := other.Close(); err != nil {
				t.Fatal(err)
			}
			mustOpen(t, path, embedded(t))
		})
	}
}

func TestFold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	newer := append(embedded(t), migration{"9999_later.sql", "CREATE TABLE later (a)"})
	db := mustOpen(t, path, newer)
	if _, err := db.write.Exec("INSERT INTO instance VALUES ('k', 'in the log')"); err != nil {
		t.Fatal(err)
	}
	killed := filepath.Join(t.TempDir(), "b.db") // a copy of the open one is what a kill leaves
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		write(t, killed+suffix, b)
	}
	if err := Fold(t.Context(), path); agent.ErrorCode(err) != agent.CodeUnavailable {
		t.Errorf("while it is open: %v", err)
	}
	if err := Fold(t.Context(), killed); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(killed)
	if err != nil || !strings.Contains(string(b), "in the log") {
		t.Errorf("what was in the log is not in the file: %v", err)
	}
	if left, err := filepath.Glob(killed + "?*"); err != nil || left != nil {
		t.Errorf("left: %q, %v", left, err)
	}
	mustOpen(t, killed, newer)
}

func TestFold_none(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	if err := Fold(t.Context(), path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error: %v", err)
	}
	write(t, path, []byte("no database"))
	if err := Fold(t.Context(), path); !errors.Is(err, ErrUnusable) {
		t.Errorf("error: %v", err)
	}
}

// TestPassing: a full disk that shows itself beside the database.
func TestPassing(t *testing.T) {
	for want, errs := range map[string][]error{
		agent.CodeNoSpace: {
			sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrSHMSize, SystemErrno: syscall.ENOSPC},
			sqlite3.Error{Code: sqlite3.ErrCantOpen, SystemErrno: syscall.EDQUOT},
			&os.PathError{Op: "sync", Path: "x", Err: syscall.ENOSPC},
		},
		"": {nil, sqlite3.Error{Code: sqlite3.ErrIoErr, SystemErrno: syscall.EIO}, sqlite3.Error{Code: sqlite3.ErrCorrupt}, context.Canceled},
	} {
		for _, err := range errs {
			if got := passing(err); got != want {
				t.Errorf("%v: %q, want %q", err, got, want)
			}
		}
	}
}
