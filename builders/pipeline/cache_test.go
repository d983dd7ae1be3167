package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestPipeline_RemoveRetired: what earlier releases kept goes, once none is in use.
func TestPipeline_RemoveRetired(t *testing.T) {
	p := &Pipeline{CacheDir: t.TempDir()}
	for _, name := range []string{"layers/a/changes.tar", "rootfs/a.tar", "rootfs/a.tar.sha256", "rootfs/b.work/root/f", "workspace/rootfs/a.tar", "workspace/storage/f", "debs/a"} {
		path := filepath.Join(p.CacheDir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}

	all := filesBelow(t, p.CacheDir)
	if err := p.removeRetired(time.Now()); err != nil {
		t.Fatal(err)
	}
	if left := filesBelow(t, p.CacheDir); !slices.Equal(left, all) {
		t.Errorf("what was made today is gone: left is %q", left)
	}

	if err := p.removeRetired(time.Now().Add(25 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	if left, want := filesBelow(t, p.CacheDir), []string{"debs/a", "rootfs/b.work/root/f", "workspace/storage/f"}; !slices.Equal(left, want) {
		t.Errorf("left is %q, want %q", left, want)
	}
}

func filesBelow(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		names = append(names, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
