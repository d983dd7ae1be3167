package builders_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rockpool/rootvm/builders"
)

func TestDigestFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		d, err := builders.DigestFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}

	first := write("a", "1", 0o644)
	if write("a", "1", 0o644) != first {
		t.Error("the same files have two digests")
	}
	if write("a", "2", 0o644) == first || write("a", "1", 0o755) == first {
		t.Error("a change of content or mode is not seen")
	}
	if write("a", "1", 0o644) != first {
		t.Error("changed back, and the digest differs")
	}
	if write("b", "", 0o644) == first {
		t.Error("a new file is not seen")
	}
	if _, err := builders.DigestFiles(filepath.Join(dir, "absent")); err == nil {
		t.Error("no error for a missing directory")
	}
}
