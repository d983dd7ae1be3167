package pipeline

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/rockpool/rootvm/builders"
)

// template returns the blocks of packer/.
func template(t *testing.T) []*hclsyntax.Block {
	t.Helper()
	files, err := filepath.Glob("../../packer/*.pkr.hcl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no template: %v", err)
	}
	var blocks []*hclsyntax.Block
	for _, file := range files {
		parsed, diags := hclparse.NewParser().ParseHCLFile(file)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		blocks = append(blocks, parsed.Body.(*hclsyntax.Body).Blocks...)
	}
	return blocks
}

// fields are the names in JSON of a struct's fields, sorted.
func fields(v any) []string {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// TestTemplate_DeclaresWhatItIsGiven holds the template's variables against the
// file that Packer is given.
func TestTemplate_DeclaresWhatItIsGiven(t *testing.T) {
	var declared []string
	for _, block := range template(t) {
		if block.Type == "variable" {
			declared = append(declared, block.Labels[0])
		}
	}
	slices.Sort(declared)
	if given := fields(variables{}); !slices.Equal(declared, given) {
		t.Errorf("declared %v\n   given %v", declared, given)
	}
}

// TestTemplate_PassesTheSpec holds the template against the Spec: it declares
// every field of it, and hands each to the plugin.
func TestTemplate_PassesTheSpec(t *testing.T) {
	var declared, passed []string
	for _, block := range template(t) {
		switch {
		case block.Type == "variable" && block.Labels[0] == "spec":
			call := block.Body.Attributes["type"].Expr.(*hclsyntax.FunctionCallExpr)
			for _, item := range call.Args[0].(*hclsyntax.ObjectConsExpr).Items {
				name, diags := item.KeyExpr.Value(nil)
				if diags.HasErrors() {
					t.Fatal(diags)
				}
				declared = append(declared, name.AsString())
			}

		case block.Type == "source":
			for name, attribute := range block.Body.Attributes {
				for _, traversal := range attribute.Expr.Variables() {
					if len(traversal) == 3 && traversal.RootName() == "var" && traversal[1].(hcl.TraverseAttr).Name == "spec" {
						passed = append(passed, name)
					}
				}
			}
		}
	}

	slices.Sort(declared)
	slices.Sort(passed)
	want := fields(builders.Spec{})
	if !slices.Equal(declared, want) {
		t.Errorf("the template declares %v of the Spec, which has %v", declared, want)
	}
	if !slices.Equal(passed, want) {
		t.Errorf("the template passes %v of the Spec, which has %v", passed, want)
	}
}

// TestTemplate_PostProcessors holds the names of the template's post-processors
// against those that a build leaves out: Packer takes an unknown name for none.
func TestTemplate_PostProcessors(t *testing.T) {
	var named []string
	for _, block := range template(t) {
		if block.Type != "build" {
			continue
		}
		for _, inner := range block.Body.Blocks {
			if inner.Type != "post-processor" {
				continue
			}
			name, diags := inner.Body.Attributes["name"].Expr.Value(nil)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			named = append(named, name.AsString())
			if inner.Labels[0] != "rootvm-"+name.AsString() {
				t.Errorf("the post-processor %s is named %s", inner.Labels[0], name.AsString())
			}
		}
	}
	if !slices.Equal(named, postProcessors) {
		t.Errorf("the template has %v, a build leaves out of %v", named, postProcessors)
	}

	for formats, want := range map[string]string{"qcow2": "tart", "raw": "qcow2,tart", "tart": "qcow2", "qcow2,tart": ""} {
		if got := strings.Join(leftOut(strings.Split(formats, ",")), ","); got != want {
			t.Errorf("FORMATS=%s leaves out %q, want %q", formats, got, want)
		}
	}
}
