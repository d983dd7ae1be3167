package rootvm

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/rockpool/rootvm/builders"
)

// raw is a complete configuration as Packer hands it over.
func raw(changes map[string]any) map[string]any {
	m := map[string]any{
		"suite": "trixie", "architecture": "amd64", "source_date_epoch": 1700000000,
		"cache_directory": "/c", "work_directory": "/w", "output_directory": "/o",
	}
	for k, v := range changes {
		m[k] = v
	}
	return m
}

func TestBuilder_Prepare(t *testing.T) {
	var b Builder
	if _, _, err := b.Prepare(raw(map[string]any{"formats": []string{"raw"}})); err != nil {
		t.Fatal(err)
	}
	spec := b.config.Spec
	if spec.DiskSize != builders.DefaultDiskSize || spec.Name() != "rockpool-root-trixie-amd64" || spec.Formats[0] != "raw" {
		t.Errorf("spec = %+v", spec)
	}
	if got := b.config.path(".raw"); got != "/o/rockpool-root-trixie-amd64.raw" {
		t.Errorf("path = %s", got)
	}
}

func TestBuilder_PrepareReportsEveryFault(t *testing.T) {
	var b Builder
	_, _, err := b.Prepare(raw(map[string]any{
		"suite": "sid", "disk_size": 5, "cache_directory": "relative", "output_directory": "/w/out",
	}))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"SUITE", "DISK_SIZE", "cache_directory", "output_directory must not lie"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
}

func TestBuilder_PrepareUnknownKey(t *testing.T) {
	var b Builder
	if _, _, err := b.Prepare(raw(map[string]any{"disksize": 5})); err == nil || !strings.Contains(err.Error(), "disksize") {
		t.Errorf("error = %v", err)
	}
}

func TestArtifact_DestroyKeepsWhatIsFinished(t *testing.T) {
	dir := t.TempDir()
	a := &Artifact{Raw: filepath.Join(dir, "x.raw"), Manifest: filepath.Join(dir, "x.json"), Name: "x"}
	for _, path := range a.Files() {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // again is no error
		if err := a.Destroy(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(a.Manifest); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(a.Raw); err == nil {
		t.Error("the raw disk is still there")
	}
}

func TestQCOW2_Configure(t *testing.T) {
	var p QCOW2
	if err := p.Configure(map[string]any{"cache_directory": "relative"}); err == nil || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("error = %v", err)
	}
	if err := p.Configure(map[string]any{"cache_directory": "/c"}); err != nil {
		t.Error(err)
	}
}

func TestQCOW2_PostProcessForeignArtifact(t *testing.T) {
	var p QCOW2
	_, _, _, err := p.PostProcess(t.Context(), packersdk.TestUi(t), &packersdk.MockArtifact{BuilderIdValue: "amazon"})
	if err == nil || !strings.Contains(err.Error(), "amazon") {
		t.Errorf("error = %v", err)
	}
}

// TestConfig_HCLHasTheSpec: config.hcl2spec.go was generated after the last
// change of the Spec.
func TestConfig_HCLHasTheSpec(t *testing.T) {
	schema := new(Builder).ConfigSpec()
	for _, f := range reflect.VisibleFields(reflect.TypeFor[builders.Spec]()) {
		if _, ok := schema[f.Tag.Get("mapstructure")]; !ok {
			t.Errorf("the HCL schema lacks %s: run `go generate ./builders/rootvm`", f.Name)
		}
	}
}
