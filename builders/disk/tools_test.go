package disk

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tree is a toolbox of an extracted tools tree, run through its own loader.
type tree struct{ dir string }

func (t tree) Path(rel string) string { return filepath.Join(t.dir, rel) }

func (t tree) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	program := t.Path("usr/bin/" + name)
	if _, err := os.Stat(program); err != nil {
		program = t.Path("usr/sbin/" + name)
	}
	argv := append([]string{"--library-path", t.Path("usr/lib/x86_64-linux-gnu"), program}, args...)
	return exec.CommandContext(ctx, t.Path("lib64/ld-linux-x86-64.so.2"), argv...)
}

// tools is the tools tree that mage passes when its cache has one.
func tools(t testing.TB) tree {
	t.Helper()
	dir := os.Getenv("ROCKPOOL_TEST_TOOLS")
	if dir == "" {
		t.Skip("ROCKPOOL_TEST_TOOLS is not set: `go tool mage rootvm:build` once, then `go tool mage test`")
	}
	return tree{dir: dir}
}
