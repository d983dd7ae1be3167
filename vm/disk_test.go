package vm

import (
	"os"
	"path/filepath"
	"testing"
)

// TestNewSparse_failed leaves nothing that the next start would take for a data
// disk.
func TestNewSparse_failed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "data.raw")
	if err := newSparse(path, -1); err == nil { // as with a size that the file system refuses
		t.Error("a disk of -1 bytes was made")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := newSparse(path, GiB); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != GiB || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
