package builders_test

import (
	"errors"
	"io/fs"
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

// TestDigestFiles_Umask: the modes that another umask leaves are the same to git.
func TestDigestFiles_Umask(t *testing.T) {
	digests := map[string]bool{}
	for _, mask := range []fs.FileMode{0o002, 0o022, 0o077} {
		dir := t.TempDir()
		for name, mode := range map[string]fs.FileMode{"plain": 0o666, "program": 0o777} {
			path := filepath.Join(dir, name)
			if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, mode&^mask)); err != nil {
				t.Fatal(err)
			}
		}
		d, err := builders.DigestFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		digests[d] = true
	}
	if len(digests) != 1 {
		t.Errorf("three umasks make %d digests of the same files", len(digests))
	}
}

// TestDigestFiles_Links: a link counts by what it says, also one that leads
// nowhere or to a directory.
func TestDigestFiles_Links(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, ".#file")
	seen := map[string]string{}
	for _, target := range []string{"nobody@nowhere.1", "nobody@nowhere.2", "."} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		for name, digest := range map[string]func(string) (string, error){"files": builders.DigestFiles, "sources": builders.DigestSources} {
			d, err := digest(dir)
			if err != nil || seen[name+d] != "" {
				t.Errorf("%s: %s has the digest of %q, %v", name, target, seen[name+d], err)
			}
			seen[name+d] = target
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDigestSources(t *testing.T) {
	dir := t.TempDir()
	digest := func(name string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("x"), 0o644)); err != nil {
			t.Fatal(err)
		}
		d, err := builders.DigestSources(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := digest("code.go")
	for _, name := range []string{"code_test.go", "sub/more_test.go", "testdata/golden", "sub/testdata/deep/golden", "node_modules/x/index.js"} {
		if digest(name) != first {
			t.Errorf("%s counts", name)
		}
	}
	for _, name := range []string{"sub/more.go", "testdata.go", "sub/test.go"} {
		if d := digest(name); d == first {
			t.Errorf("%s does not count", name)
		} else {
			first = d
		}
	}
}
