package http_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// printed are the shapes that only commands print.
var printed = []string{"WorkspaceLine", "Finding"}

// describe finds the description of a place.
func describe(doc *openapi3.T, p place) *openapi3.Schema {
	var ref *openapi3.SchemaRef
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			switch op.OperationID {
			case "":
			case p.body:
				ref = op.RequestBody.Value.Content.Get(jsonKind).Schema
			case p.answer:
				ref = op.Responses.Status(200).Value.Content.Get(jsonKind).Schema
			}
		}
	}
	if p.schema != "" {
		ref = doc.Components.Schemas[p.schema]
	}
	for _, name := range p.members {
		if ref != nil {
			ref = ref.Value.Properties[name]
		}
	}
	if ref == nil {
		return nil
	}
	return ref.Value
}

// TestOpenAPI_shapes: document and shapes have the same members, and agree on
// which are required and which nobody may send.
func TestOpenAPI_shapes(t *testing.T) {
	doc := document(t)
	seen := map[string]bool{}
	for _, p := range places() {
		kind := reflect.TypeOf(p.shape)
		seen[kind.Name()] = true
		schema := describe(doc, p)
		if schema == nil {
			t.Errorf("%s: the document does not describe it", kind)
			continue
		}

		var members, required, readOnly []string
		for name, s := range schema.Properties {
			if s.Value.ReadOnly || s.Ref == "" && s.Value.Not != nil {
				readOnly = append(readOnly, name)
			} else {
				members = append(members, name)
			}
		}
		required = slices.Clone(schema.Required)
		var wantMembers, wantRequired, wantReadOnly []string
		for i := range kind.NumField() {
			name, options, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
			wantMembers = append(wantMembers, name)
			if options != "omitempty" {
				wantRequired = append(wantRequired, name)
			}
		}
		if s, ok := p.shape.(interface{ ReadOnly() []string }); ok {
			wantReadOnly = s.ReadOnly()
		}
		for what, l := range map[string][2][]string{"members": {members, wantMembers}, "required": {required, wantRequired}, "read-only": {readOnly, wantReadOnly}} {
			slices.Sort(l[0])
			slices.Sort(l[1])
			if !slices.Equal(l[0], l[1]) {
				t.Errorf("%s, %s: document %v, shape %v", kind, what, l[0], l[1])
			}
		}
	}

	for _, name := range shapesOf(t, filepath.Join("..", "api")) {
		if !seen[name] && !slices.Contains(printed, name) {
			t.Errorf("shape %s is held against nothing", name)
		}
	}
	for name := range doc.Components.Schemas {
		if doc.Components.Schemas[name].Value.Type.Is("object") && !slices.ContainsFunc(places(), func(p place) bool { return p.schema == name }) {
			t.Errorf("the document's %s is no shape", name)
		}
	}
}

// shapesOf lists the exported structs of a package with JSON members.
func shapesOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	names := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !spec.Name.IsExported() {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok && slices.ContainsFunc(s.Fields.List, func(f *ast.Field) bool { return f.Tag != nil }) {
				names[spec.Name.Name] = true
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(names))
}
