package builders_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rockpool/rootvm/builders"
)

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
