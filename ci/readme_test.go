package ci

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/host"
	"github.com/rockpool/rootvm/host/cli"
)

// maintainersTargets are the targets that README.md leaves out.
var maintainersTargets = []string{"rootvm:lock"}

// TestReadme_Targets: README.md names every target of mage, and none that is
// not there.
func TestReadme_Targets(t *testing.T) {
	targets := mageTargets(t)
	var named []string
	for _, row := range verbRows(t) {
		named = append(named, firstWords(row[0])...)
	}
	for _, m := range regexp.MustCompile(`go tool mage ([a-zA-Z0-9:]+)`).FindAllStringSubmatch(readme(t), -1) {
		named = append(named, m[1])
	}
	named = append(named, "workspace:clean") // beside workspace:image

	for _, name := range named {
		if !slices.Contains(targets, name) {
			t.Errorf("README.md names the target %s, which the magefile does not have", name)
		}
	}
	for _, target := range targets {
		if !slices.Contains(named, target) && !slices.Contains(maintainersTargets, target) {
			t.Errorf("README.md does not name the target %s", target)
		}
	}
}

// TestReadme_Verbs: each verb of the program rockpool that README.md names has a
// help of its own, and is the target of mage beside it.
func TestReadme_Verbs(t *testing.T) {
	checked := 0
	for _, row := range verbRows(t) {
		verbs := codeSpans.FindAllStringSubmatch(row[1], -1)
		if strings.TrimSpace(row[1]) == "the same" {
			verbs = codeSpans.FindAllStringSubmatch(row[0], -1)
		}
		for i, m := range verbs {
			verb := regexp.MustCompile(`^[a-z]+( [a-z]+)?`).FindString(m[1])
			var out, fault bytes.Buffer
			around := host.Surroundings{Out: &out, Err: &fault, Getenv: func(string) string { return "" }, HomeDir: os.UserHomeDir, Dir: t.TempDir()}
			code := cli.Run(t.Context(), append(strings.Fields(verb), "--help"), host.Standalone(), around)
			if code != cli.ExitOK || !strings.Contains(out.String(), "Usage:\n  rockpool "+verb) {
				t.Errorf("rockpool %s --help: %d\n%s%s", verb, code, &out, &fault)
			}
			if target := firstWords(row[0])[i]; target != strings.ReplaceAll(verb, " ", ":") {
				t.Errorf("rockpool %s stands beside the target %s", verb, target)
			}
			checked++
		}
	}
	if checked < 10 {
		t.Errorf("found %d verbs in README.md", checked)
	}
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// verbRows are the rows of README.md's table of verbs, as cells.
func verbRows(t *testing.T) [][]string {
	t.Helper()
	_, table, ok := strings.Cut(readme(t), "| `go tool mage …` | `rockpool …` | what it does |\n|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	if !ok {
		t.Fatal("README.md has no table of verbs")
	}

	var rows [][]string
	for line := range strings.Lines(table) {
		rows = append(rows, strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|"))
	}
	return rows
}

// firstWords are the first words of a cell's code spans.
func firstWords(cell string) []string {
	var words []string
	for _, span := range spans(cell) {
		words = append(words, strings.Fields(span)[0])
	}
	return words
}

// mageTargets reads the targets' names from the magefile, as mage has them.
func mageTargets(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../magefile.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}

	lower := func(s string) string { return strings.ToLower(s[:1]) + s[1:] }
	var targets []string
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || !f.Name.IsExported() {
			continue
		}
		name := lower(f.Name.Name)
		if f.Recv != nil {
			name = lower(f.Recv.List[0].Type.(*ast.Ident).Name) + ":" + name
		}
		targets = append(targets, name)
	}
	return targets
}
