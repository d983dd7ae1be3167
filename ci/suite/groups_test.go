package suite_test

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/ci/suite"
)

// longTests are the tests of ci/e2e that do less with -short.
func longTests(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("../e2e/*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in ci/e2e: %v", err)
	}

	long := map[string]bool{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(f.Name.Name, "Test") || f.Name.Name == "TestMain" {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				switch fun := call.Fun.(type) {
				case *ast.Ident:
					long[f.Name.Name] = long[f.Name.Name] || fun.Name == "takesLong"
				case *ast.SelectorExpr:
					long[f.Name.Name] = long[f.Name.Name] || fun.Sel.Name == "Short"
				}
				return true
			})
		}
	}
	maps.DeleteFunc(long, func(_ string, is bool) bool { return !is })
	return long
}

// TestGroups: every test that takes long is in exactly one group, and nothing
// else is in any.
func TestGroups(t *testing.T) {
	long := longTests(t)
	if !long["TestBookworm"] || !long["TestBuild_SameBytes"] || long["TestUp"] {
		t.Fatalf("found as long: %v", slices.Sorted(maps.Keys(long)))
	}

	in := map[string]string{}
	for _, g := range suite.Groups() {
		for _, name := range g.Tests {
			if in[name] != "" {
				t.Errorf("%s is in the groups %s and %s", name, in[name], g.Name)
			}
			in[name] = g.Name
			if !long[name] {
				t.Errorf("group %s has %s, which is no long test of ci/e2e", g.Name, name)
			}
		}
	}
	for name := range long {
		if in[name] == "" {
			t.Errorf("%s takes long and is in no group of ci/suite/groups.go", name)
		}
	}
}

// TestGroups_Document: the table for people has the same groups, with what they
// are for and their tests, in the same order.
func TestGroups_Document(t *testing.T) {
	b, err := os.ReadFile("../../doc/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, g := range suite.Groups() {
		tests := make([]string, len(g.Tests))
		for i, name := range g.Tests {
			tests[i] = "`" + name + "`"
		}
		row := fmt.Sprintf("\n| `%s` | %s: %s | ", g.Name, g.Purpose, strings.Join(tests, ", "))
		i := bytes.Index(b[at:], []byte(row))
		if i < 0 {
			t.Errorf("doc/benchmarks.md lacks, or has in another place, the row %q", row[1:])
			continue
		}
		at += i
	}
}

// TestE2E_UnknownGroup: a group that is none is refused before anything is built.
func TestE2E_UnknownGroup(t *testing.T) {
	s := suite.Suite{Getenv: func(name string) string { return map[string]string{suite.GroupVariable: "nothing"}[name] }}
	if err := s.E2E(context.Background()); err == nil || !strings.Contains(err.Error(), "nothing") || !strings.Contains(err.Error(), "rounds-host") {
		t.Errorf("error %v, want one that names the groups", err)
	}
}
