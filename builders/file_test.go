package builders_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rockpool/rootvm/builders"
)

// TestCopyCheckout: the copy is what git would check out with the usual umask.
func TestCopyCheckout(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "a", "to")
	for name, mode := range map[string]os.FileMode{"d/plain": 0o600, "d/program": 0o700} {
		path := filepath.Join(from, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(name), mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("plain", filepath.Join(from, "d/link")), os.MkdirAll(to, 0o755), os.WriteFile(filepath.Join(to, "old"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := builders.CopyCheckout(to, from); err != nil {
		t.Fatal(err)
	}

	for name, want := range map[string]os.FileMode{".": os.ModeDir | 0o755, "d": os.ModeDir | 0o755, "d/plain": 0o644, "d/program": 0o755, "d/link": os.ModeSymlink | 0o777} {
		info, err := os.Lstat(filepath.Join(to, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, info, err, want)
		}
	}
	if _, err := os.Lstat(filepath.Join(to, "old")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was there before is there still: %v", err)
	}
}

// TestCreateFile leaves a file unfinished, as a killed build does, and then
// makes it.
func TestCreateFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.tar")
	if err := os.WriteFile(path+".sha256", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	unfinished, err := builders.CreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer unfinished.Close()
	if _, err := os.Stat(path); err == nil {
		t.Error("the file has its name before it is whole")
	}

	f, err := builders.CreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Cleanup()
	if _, err := f.WriteString("whole"); err != nil {
		t.Fatal(err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		t.Fatal(err)
	}

	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("the directory holds %v, %v; want x.tar and x.tar.sha256", entries, err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "whole" {
		t.Errorf("the file says %q, %v", b, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o644 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}
