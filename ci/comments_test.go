package ci

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// statement finds what a package comment says of the package's imports.
var statement = regexp.MustCompile(`[^.]*\bimports\b[^.]*`)

// TestPackageComments_SayWhatIsImported: a package comment that says what the
// package imports names every package of this module that it does import.
func TestPackageComments_SayWhatIsImported(t *testing.T) {
	checked := 0
	for _, p := range list(t, "linux") {
		name := strings.TrimPrefix(p.ImportPath, module)
		said := statement.FindString(packageComment(t, filepath.Join("..", name)))
		if said == "" {
			continue
		}
		checked++
		for _, imp := range p.Imports {
			if own, ok := strings.CutPrefix(imp, module); ok && !names(said, own) {
				t.Errorf("%s imports %s, and its comment says:%s", name, own, said)
			}
		}
	}
	if checked < 10 {
		t.Errorf("found statements in %d package comments", checked)
	}
}

// names reports whether a sentence names a package, or what it stands for.
func names(sentence, own string) bool {
	if own == "agent" && strings.Contains(sentence, "the domain") {
		return true
	}
	return regexp.MustCompile(`(^|[^\w/])` + regexp.QuoteMeta(own) + `($|[^\w/])`).MatchString(sentence)
}

// packageComment returns the words of a package's comments, as one line.
func packageComment(t *testing.T, dir string) string {
	t.Helper()
	var words []string
	for _, file := range goFiles(t, dir) {
		if file.Doc != nil {
			words = append(words, strings.Fields(file.Doc.Text())...)
		}
	}
	return strings.Join(words, " ")
}

// goFiles parses the files of a package that are no tests, of whatever tags.
func goFiles(t *testing.T, dir string) []*ast.File {
	t.Helper()
	context := build.Default
	context.UseAllFiles = true
	found, _ := context.ImportDir(dir, build.IgnoreVendor) // of several names, in the magefile's directory
	if found == nil {
		t.Fatalf("no package in %s", dir)
	}

	var files []*ast.File
	for _, name := range found.GoFiles {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}
