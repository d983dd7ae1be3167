// Package ci holds what the targets run and the tests of the repository as a
// whole.
package ci

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/ci/build"
)

const module = "github.com/rockpool/rootvm/"

// allowed is the last column of the table in doc/architecture.md: which
// packages of this module a package may import, by longest prefix. "x/..."
// stands for x and everything below it.
var allowed = map[string][]string{
	"cmd/rockpool-agent":       {"agent/..."},
	"cmd/packer-plugin-rootvm": {"builders/..."},
	"cmd/rockpool-vm":          {"vm/..."},
	"cmd/workspace-image":      {"images/..."},
	"images":                   {},
	"images/":                  {"images"},
	"builders":                 {},
	"builders/bootstrap":       {"builders", "builders/userns"},
	"builders/userns":          {"builders"},
	"builders/disk":            {"builders"},
	"builders/rootvm":          {"builders/...", "provision"},
	"provision":                {"templates"},
	"templates":                {},
	"vm":                       {},
	"vm/qemu":                  {"vm"},
	"agent":                    {},
	"agent/":                   {"agent"},
	"ci":                       {"builders/...", "provision", "templates", "images", "images/oci", "images/spdx", "vm/...", "ci/..."},
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// TestImports_FollowTheTable reads the imports of every package from `go list`.
func TestImports_FollowTheTable(t *testing.T) {
	packages := list(t)
	if len(packages) < len(allowed)/2 {
		t.Fatalf("go list found only %d packages", len(packages))
	}
	for _, p := range packages {
		name := strings.TrimPrefix(p.ImportPath, module)
		rules, ok := rulesOf(name)
		if !ok {
			t.Errorf("%s has no row in the import table", name)
			continue
		}
		for _, imp := range p.Imports {
			own, ok := strings.CutPrefix(imp, module)
			if ok && !permits(rules, own) {
				t.Errorf("%s must not import %s (allowed: %v)", name, own, rules)
			}
		}
	}
}

func TestPermits(t *testing.T) {
	for _, c := range []struct {
		rules []string
		path  string
		want  bool
	}{
		{[]string{"agent/..."}, "agent", true},
		{[]string{"agent/..."}, "agent/sqlite", true},
		{[]string{"agent/..."}, "agents", false},
		{[]string{"agent"}, "agent/sqlite", false},
		{nil, "agent", false},
	} {
		if got := permits(c.rules, c.path); got != c.want {
			t.Errorf("permits(%v, %q) = %v", c.rules, c.path, got)
		}
	}
}

// rulesOf finds the row of a package: its own, or the nearest above it. A row
// that ends in "/" is for everything below only.
func rulesOf(name string) ([]string, bool) {
	if r, ok := allowed[name]; ok {
		return r, true
	}
	for {
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return nil, false
		}
		name = name[:i]
		if r, ok := allowed[name+"/"]; ok {
			return r, true
		}
		if r, ok := allowed[name]; ok {
			return r, true
		}
	}
}

func permits(rules []string, path string) bool {
	for _, r := range rules {
		if dir, ok := strings.CutSuffix(r, "/..."); ok && (path == dir || strings.HasPrefix(path, dir+"/")) {
			return true
		}
		if r == path {
			return true
		}
	}
	return false
}

func list(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-tags", build.PodmanTags, "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
}
