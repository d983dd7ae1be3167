package builders

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestNextData: data is never taken for a hole, and a hole is found where the
// file system has one.
func TestNextData(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 8 * MiB
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("data"), 3*MiB+5); err != nil {
		t.Fatal(err)
	}

	from, to, err := NextData(f, 0, size)
	if err != nil || from > 3*MiB+5 || to < 3*MiB+9 {
		t.Fatalf("data from %d to %d, %v", from, to, err)
	}
	if from == 0 && to == size {
		if runtime.GOOS == "linux" {
			t.Skip("the file system of the temporary directory has no holes")
		}
		return
	}
	if from, to, err = NextData(f, to, size); from != size || to != size || err != nil {
		t.Errorf("after the data: %d to %d, %v", from, to, err)
	}
	if from, to, err = NextData(f, 0, MiB); from != MiB || to != MiB || err != nil {
		t.Errorf("before the data: %d to %d, %v", from, to, err)
	}
}
