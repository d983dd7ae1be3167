package builders

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// marked makes a directory with two files that say the same.
func marked(t *testing.T, dir, mark string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(mark), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// markOf is what the files of a whole directory say.
func markOf(dir string) (string, error) {
	a, err := os.ReadFile(filepath.Join(dir, "a"))
	if err != nil {
		return "", err
	}
	if b, err := os.ReadFile(filepath.Join(dir, "b")); err != nil || string(b) != string(a) {
		return "", fmt.Errorf("a says %q, b %q, %w", a, b, err)
	}
	return string(a), nil
}

func needsExchange(t *testing.T, name string) {
	t.Helper()
	if err := exchange(name, name); errors.Is(err, errNoExchange) {
		t.Skip("the file system of the temporary directory cannot exchange names: set TMPDIR to one that can, such as ext4")
	}
}

var errCut = errors.New("cut off")

// TestReplaceDirectory/cut: wherever it is cut off, the old directory or the new
// one is there, whole, and doing it again ends it.
func TestReplaceDirectory_cut(t *testing.T) {
	for steps := 0; ; steps++ {
		dir := t.TempDir()
		from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
		marked(t, from, "new")
		marked(t, to, "old")
		needsExchange(t, to)
		left := steps
		r := replacement{from: from, to: to, exchange: exchange, before: func(string) error {
			if left--; left < 0 {
				return errCut
			}
			mark, err := markOf(to)
			if err != nil || mark != "old" && mark != "new" {
				t.Errorf("after %d steps: %q, %v", steps-left-1, mark, err)
			}
			return nil
		}}
		err := r.run()
		mark, markErr := markOf(to)
		if markErr != nil || mark != "old" && mark != "new" {
			t.Errorf("cut off after %d steps: %q, %v", steps, mark, markErr)
		}
		if err == nil {
			if _, err := os.Lstat(from); !errors.Is(err, os.ErrNotExist) || mark != "new" {
				t.Errorf("at the end it is %q, and the old one is %v", mark, err)
			}
			return
		}

		if err := os.RemoveAll(from); err != nil { // as who makes it anew does
			t.Fatal(err)
		}
		marked(t, from, "newer")
		if err := ReplaceDirectory(from, to); err != nil {
			t.Fatal(err)
		}
		if mark, err := markOf(to); err != nil || mark != "newer" {
			t.Errorf("then it is %q, %v", mark, err)
		}
	}
}

// TestReplaceDirectory/watched: who looks at the name all the while never finds
// nothing.
func TestReplaceDirectory_watched(t *testing.T) {
	dir := t.TempDir()
	to := filepath.Join(dir, "to")
	marked(t, to, "0")
	needsExchange(t, to)
	done := make(chan struct{})
	missing := make(chan int, 1)
	go func() {
		n := 0
		for {
			select {
			case <-done:
				missing <- n
				return
			default:
			}
			if _, err := os.Lstat(to); err != nil {
				n++
			}
		}
	}()
	for i := range 300 {
		from := filepath.Join(dir, "from")
		marked(t, from, fmt.Sprint(i))
		if err := ReplaceDirectory(from, to); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	if n := <-missing; n > 0 {
		t.Errorf("%d times nothing was there", n)
	}
}

// TestReplaceDirectory: over nothing, over a file, and where names cannot be
// exchanged, the new one is there at the end, alone.
func TestReplaceDirectory(t *testing.T) {
	for name, tt := range map[string]struct {
		there    func(to string) error
		exchange func(a, b string) error
	}{
		"nothing":     {func(string) error { return nil }, exchange},
		"a file":      {func(to string) error { return os.WriteFile(to, []byte("old"), 0o644) }, exchange},
		"no exchange": {func(to string) error { return os.MkdirAll(to+"/old", 0o755) }, func(string, string) error { return errNoExchange }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
			marked(t, from, "new")
			if err := tt.there(to); err != nil {
				t.Fatal(err)
			}
			r := replacement{from: from, to: to, exchange: tt.exchange, before: func(string) error { return nil }}
			if err := r.run(); err != nil {
				t.Fatal(err)
			}
			if mark, err := markOf(to); err != nil || mark != "new" {
				t.Errorf("it is %q, %v", mark, err)
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) != 1 {
				t.Errorf("there are %v, %v", left, err)
			}
			if inside, err := os.ReadDir(to); err != nil || len(inside) != 2 {
				t.Errorf("in it are %v, %v", inside, err)
			}
		})
	}
}
