package bootstrap

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestNodeModules_Key(t *testing.T) {
	n := NodeModules{Source: t.TempDir(), Installer: "installer"}
	foreign := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	write := func(dir, content string) {
		t.Helper()
		dir = filepath.Join(n.Source, dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "package-lock.json"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	keys := func() (own, other string) {
		t.Helper()
		var all [2]string
		for i, architecture := range []string{runtime.GOARCH, foreign} {
			recipe, err := n.recipe("a", architecture)
			if err != nil {
				t.Fatal(err)
			}
			all[i], _ = n.Cache.Store().Find(recipe)
		}
		return all[0], all[1]
	}

	write("a", "1")
	write(n.Installer, "1")
	own, other := keys()
	if own == other {
		t.Error("two architectures have one tree")
	}

	write(n.Installer, "2")
	if again, later := keys(); again != own || later == other {
		t.Error("want another tree for the other architecture, whose npm is another, and for that only")
	}

	write("a", "2")
	if again, _ := keys(); again == own {
		t.Error("another lock is not seen")
	}
	if recipe, err := n.recipe("a", runtime.GOARCH); err != nil || len(recipe.Inputs) < 2 {
		t.Errorf("the lock alone decides: %v, %v", recipe, err)
	}
}
