package ci

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
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

// TestReadme_Verbs: README.md names every verb of the program rockpool, and none
// that is not there; the target of mage beside it is the same.
func TestReadme_Verbs(t *testing.T) {
	verbs := rockpoolVerbs(t)
	named := []string{"completion", "help"} // cobra's own
	for _, row := range verbRows(t) {
		targets, cell := firstWords(row[0]), strings.TrimSpace(row[1])
		if cell == "the same" || strings.HasSuffix(cell, ", …") { // all that mage has there
			for _, target := range targets {
				named = append(named, strings.ReplaceAll(target, ":", " "))
			}
			continue
		}
		for i, span := range spans(cell) {
			verb := regexp.MustCompile(`^[a-z]+( [a-z]+)?`).FindString(span)
			named = append(named, verb)
			if len(targets) > 0 && targets[i] != strings.ReplaceAll(verb, " ", ":") {
				t.Errorf("rockpool %s stands beside the target %s", verb, targets[i])
			}
		}
	}

	for _, name := range named {
		if !slices.Contains(verbs, name) {
			t.Errorf("README.md names the verb %q, which rockpool does not have", name)
		}
	}
	for _, verb := range verbs {
		if !slices.Contains(named, verb) {
			t.Errorf("README.md does not name the verb %q of rockpool", verb)
		}
	}
}

// rockpoolVerbs asks the program rockpool for its verbs, as shells do to
// complete them.
func rockpoolVerbs(t *testing.T) []string {
	t.Helper()
	var verbs []string
	for _, name := range completions(t, "") {
		if name != "vm" && name != "ws" && name != "dev" {
			verbs = append(verbs, name)
			continue
		}
		for _, below := range completions(t, name, "") {
			verbs = append(verbs, name+" "+below)
		}
	}
	return verbs
}

// completions are what rockpool offers for the last of some words.
func completions(t *testing.T, words ...string) []string {
	t.Helper()
	var out bytes.Buffer
	around := host.Surroundings{Out: &out, Err: io.Discard, Getenv: func(string) string { return "" }, HomeDir: os.UserHomeDir, Dir: t.TempDir()}
	if code := cli.Run(t.Context(), append([]string{"__complete"}, words...), host.Standalone(), around); code != cli.ExitOK {
		t.Fatalf("rockpool __complete %q: %d", words, code)
	}

	var names []string
	for line := range strings.Lines(out.String()) {
		if name, _, ok := strings.Cut(line, "\t"); ok {
			names = append(names, name)
		}
	}
	return names
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
