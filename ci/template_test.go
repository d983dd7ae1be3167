package ci

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

func parse(t *testing.T, path string) *hclsyntax.Body {
	t.Helper()
	file, diags := hclparse.NewParser().ParseHCLFile(path)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return file.Body.(*hclsyntax.Body)
}

// TestTemplate_RunsEveryStepInOrder holds packer/ against provision/steps.
func TestTemplate_RunsEveryStepInOrder(t *testing.T) {
	source, err := os.ReadFile("../packer/rootvm.pkr.hcl")
	if err != nil {
		t.Fatal(err)
	}

	var got []string
	for _, block := range parse(t, "../packer/rootvm.pkr.hcl").Blocks {
		if block.Type != "build" {
			continue
		}
		for _, p := range block.Body.Blocks {
			if p.Type != "provisioner" || p.Labels[0] != "shell" {
				continue
			}
			script := p.Body.Attributes["script"].Expr.Range()
			got = append(got, filepath.Base(strings.Trim(string(script.SliceBytes(source)), `"`)))
		}
	}

	want, err := filepath.Glob("../provision/steps/*.sh")
	if err != nil || len(want) == 0 {
		t.Fatalf("no steps: %v", err)
	}

	for i := range want {
		want[i] = filepath.Base(want[i])
	}
	if !slices.Equal(got, want) {
		t.Errorf("the template runs %v, provision/steps has %v", got, want)
	}
}
