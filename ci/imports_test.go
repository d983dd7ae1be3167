// Package ci holds the tests of the repository as a whole.
package ci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders/toolchain"
)

const module = "github.com/rockpool/rootvm/"

// table is where the rules stand: the one list of who may import whom.
const table = "../doc/architecture.md"

// rules are the packages of this module that each package may import, by the
// first column of the table. A key or an import that ends in "/..." stands for
// the package before it and everything below. The import "anything" is all.
type rules map[string][]string

// codeSpans finds what stands between backticks.
var codeSpans = regexp.MustCompile("`([^`]+)`")

// parseRules reads the table of packages from a Markdown document: the one
// whose header's first and last cells are "package" and "may import, of this
// module". Every row needs at least one package, and imports, "anything" or "–".
func parseRules(document string) (rules, error) {
	found := rules{}
	inTable := false
	for line := range strings.Lines(document) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || !strings.HasPrefix(line, "|") {
			inTable = false
			continue
		}

		first, last := strings.TrimSpace(cells[0]), strings.TrimSpace(cells[2])
		switch {
		case first == "package" && last == "may import, of this module":
			inTable = true
			continue
		case !inTable || strings.Trim(first, "-") == "":
			continue
		}

		imports := spans(last)
		if len(imports) == 0 && last != "–" && last != "anything" {
			return nil, fmt.Errorf("row %q: last column %q is neither packages, anything nor –", first, last)
		}
		if last == "anything" {
			imports = []string{last}
		}

		names := spans(first)
		if len(names) == 0 {
			return nil, fmt.Errorf("row %q names no package", first)
		}

		for _, name := range names {
			if _, twice := found[name]; twice {
				return nil, fmt.Errorf("package %s has two rows", name)
			}
			found[name] = imports
		}
	}

	if len(found) == 0 {
		return nil, errors.New("no table of packages")
	}
	return found, nil
}

func spans(cell string) []string {
	var all []string
	for _, m := range codeSpans.FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// TestImports_FollowTheTable reads the imports of every package from `go list`,
// those for macOS and those of the end-to-end tests included.
func TestImports_FollowTheTable(t *testing.T) {
	document, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}

	allowed, err := parseRules(string(document))
	if err != nil {
		t.Fatalf("%s: %v", table, err)
	}

	used := map[string]bool{}
	for _, p := range slices.Concat(list(t, "linux"), list(t, "darwin")) {
		name := strings.TrimPrefix(p.ImportPath, module)
		row, ok := allowed.rowOf(name)
		if !ok {
			t.Errorf("%s has no row in the table of %s", name, table)
			continue
		}
		used[row] = true
		for _, imp := range p.Imports {
			own, ok := strings.CutPrefix(imp, module)
			if ok && !permits(allowed[row], own) {
				t.Errorf("%s must not import %s (allowed: %v)", name, own, allowed[row])
			}
		}
	}

	for row := range allowed {
		if !used[row] {
			t.Errorf("the row %s of %s is of no package", row, table)
		}
	}
}

// maxForeign is how many packages that are neither ours nor the standard
// library's the magefile may be compiled from: a user waits for them before
// `go tool mage` says its first word.
const maxForeign = 60

func TestMagefile_FewForeignPackages(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-tags", toolchain.Tags+" mage", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var foreign []string
	for path := range strings.FieldsSeq(string(out)) {
		if !strings.HasPrefix(path+"/", module) {
			foreign = append(foreign, path)
		}
	}
	if len(foreign) == 0 || len(foreign) > maxForeign {
		t.Errorf("%d foreign packages, at most %d are wanted:\n%s", len(foreign), maxForeign, strings.Join(foreign, "\n"))
	}
}

// TestRockpool_MacOS compiles the host program for a Mac, and vets what of this
// module it is made from.
func TestRockpool_MacOS(t *testing.T) {
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "GOOS=darwin", "GOARCH=arm64", "CGO_ENABLED=0")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("GOOS=darwin go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
		}
		return string(out)
	}

	run("build", "-tags", toolchain.Tags, "-o", filepath.Join(t.TempDir(), "rockpool"), "./cmd/rockpool")
	var own []string
	for path := range strings.FieldsSeq(run("list", "-deps", "-tags", toolchain.Tags, "./cmd/rockpool")) {
		if strings.HasPrefix(path, module) {
			own = append(own, path)
		}
	}

	if len(own) < 5 {
		t.Fatalf("go list found only %q", own)
	}
	run(append([]string{"vet", "-tags", toolchain.Tags}, own...)...)
}

func TestParseRules(t *testing.T) {
	const head = "text | `x` | y\n\n| package | what | may import, of this module |\n|---|---|---|\n"
	for name, c := range map[string]struct {
		document string
		want     rules
		err      string
	}{
		"rows":           {head + "| `a`, `b/...` | text | `c`, `d/...` |\n| `c` | text | – |\n| `e` | text | anything |\n\n| `f` | after | `a` |\n", rules{"a": {"c", "d/..."}, "b/...": {"c", "d/..."}, "c": nil, "e": {"anything"}}, ""},
		"other tables":   {"| file | what | may |\n|---|---|---|\n| `a` | b | `c` |\n", nil, "no table"},
		"no package":     {head + "| a | text | – |\n", nil, "names no package"},
		"empty cell":     {head + "| `a` | text | |\n", nil, "neither packages"},
		"twice":          {head + "| `a` | text | – |\n| `a` | text | – |\n", nil, "two rows"},
		"nothing at all": {"", nil, "no table"},
	} {
		got, err := parseRules(c.document)
		if c.err == "" && (err != nil || !maps.EqualFunc(got, c.want, slices.Equal)) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.err)
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
		{[]string{"anything"}, "agent", true},
	} {
		if got := permits(c.rules, c.path); got != c.want {
			t.Errorf("permits(%v, %q) = %v", c.rules, c.path, got)
		}
	}
}

// rowOf finds the row of a package: its own, or the nearest "x/..." above it.
func (r rules) rowOf(name string) (string, bool) {
	if _, ok := r[name]; ok {
		return name, true
	}
	for {
		if _, ok := r[name+"/..."]; ok {
			return name + "/...", true
		}
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return "", false
		}
		name = name[:i]
	}
}

func permits(imports []string, path string) bool {
	for _, r := range imports {
		if dir, ok := strings.CutSuffix(r, "/..."); ok && (path == dir || strings.HasPrefix(path, dir+"/")) {
			return true
		}
		if r == path || r == "anything" {
			return true
		}
	}
	return false
}

func list(t *testing.T, goos string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-tags", toolchain.PodmanTags+" e2e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "GOOS="+goos)
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
