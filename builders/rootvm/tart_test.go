package rootvm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/rockpool/rootvm/builders"
)

// built is the builder's artifact: a raw disk of 64 MB with a byte in it, and the
// manifest.
func built(t *testing.T, architecture string, size int64) *Artifact {
	t.Helper()
	spec := builders.Spec{Architecture: architecture, SourceDateEpoch: 1_700_000_000}
	spec.FillDefaults()
	dir := t.TempDir()
	a := &Artifact{Raw: filepath.Join(dir, spec.Name()+".raw"), Manifest: filepath.Join(dir, spec.Name()+".manifest.json"), Name: spec.Name()}
	if err := os.WriteFile(a.Raw, []byte{1}, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(a.Raw, size); err != nil {
		t.Fatal(err)
	}
	m := builders.Manifest{
		Name: spec.Name(), Suite: spec.Suite, Architecture: architecture, SourceDateEpoch: spec.SourceDateEpoch,
		Artifacts: []builders.Artifact{{File: "x.vmlinuz", Format: "kernel"}},
		Steps:     []builders.Step{{Name: "before"}},
	}
	if err := m.Write(a.Manifest); err != nil {
		t.Fatal(err)
	}
	return a
}

// TestTart_PostProcess: both directories lie beside the disk, and the manifest
// has each of their files. It checks what it wrote by itself.
func TestTart_PostProcess(t *testing.T) {
	var p Tart
	if err := p.Configure(map[string]any{}); err != nil {
		t.Fatal(err)
	}
	in := built(t, "arm64", 64e6)
	out, keep, force, err := p.PostProcess(t.Context(), packersdk.TestUi(t), in)
	if err != nil || keep || force || out.Id() != in.Name {
		t.Fatalf("%v, keep %v %v, %v", out, keep, force, err)
	}

	m, err := builders.ReadManifest(in.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	var vm []string
	blobs := 0
	for _, a := range m.Artifacts {
		switch a.Format {
		case "tart":
			vm = append(vm, a.File)
		case "tart-oci":
			blobs++
			if !strings.HasPrefix(a.File, in.Name+".tart.oci/") {
				t.Errorf("the artifact has %s", a.File)
			}
		}
		if a.Format == "kernel" {
			continue
		}
		if info, err := os.Stat(filepath.Join(filepath.Dir(in.Raw), a.File)); err != nil || info.Size() != a.Size {
			t.Errorf("%s: %v", a.File, err)
		}
	}
	dir := in.Name + ".tart/"
	if want := []string{dir + "config.json", dir + "disk.img", dir + "nvram.bin"}; !slices.Equal(vm, want) {
		t.Errorf("the VM is %v, want %v", vm, want)
	}
	// Layout, index, manifest, its config, and the three layers of one chunk.
	if _, ok := m.Artifact("kernel"); blobs != 7 || !ok || m.Steps[0].Name != "before" || len(m.Steps) != 4 {
		t.Errorf("%d files of the artifact, kernel %v, steps %v", blobs, ok, m.Steps)
	}
}

// TestTart_PostProcessFaults: nothing is left of what failed, and the manifest is
// as it was.
func TestTart_PostProcessFaults(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		in   *Artifact
		want string
	}{
		"amd64":     {t.Context(), built(t, "amd64", 512), "set ARCH=arm64"},
		"odd disk":  {t.Context(), built(t, "arm64", 513), "multiple of 512"},
		"cancelled": {cancelled, built(t, "arm64", 512), context.Canceled.Error()},
	} {
		before, err := os.ReadFile(c.in.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		_, _, _, err = new(Tart).PostProcess(c.ctx, packersdk.TestUi(t), c.in)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
		entries, err := os.ReadDir(filepath.Dir(c.in.Raw))
		if err != nil || len(entries) != 2 {
			t.Errorf("%s: left %v, %v", name, entries, err)
		}
		if after, err := os.ReadFile(c.in.Manifest); err != nil || string(after) != string(before) {
			t.Errorf("%s: the manifest is another one, %v", name, err)
		}
	}

	_, _, _, err := new(Tart).PostProcess(t.Context(), packersdk.TestUi(t), &packersdk.MockArtifact{BuilderIdValue: "amazon"})
	if err == nil || !strings.Contains(err.Error(), "amazon") {
		t.Errorf("a foreign artifact: error %v", err)
	}
	in := built(t, "arm64", 512)
	if err := os.Remove(in.Manifest); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := new(Tart).PostProcess(t.Context(), packersdk.TestUi(t), in); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no manifest: error %v", err)
	}
}
