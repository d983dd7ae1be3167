package rootvm

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/tart"
	"github.com/rockpool/rootvm/builders/tart/tartcheck"
)

// TartConfig is the `post-processor "rootvm-tart"` block.
type TartConfig struct {
	common.PackerConfig `mapstructure:",squash"`

	ctx interpolate.Context
}

// Tart makes of the builder's raw disk a VM for Tart beside it, as a directory
// and as an OCI artifact, checks both, and adds their files to the manifest.
type Tart struct {
	config TartConfig
}

var _ packersdk.PostProcessor = (*Tart)(nil)

// ConfigSpec is the HCL schema of [TartConfig].
func (p *Tart) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// Configure validates the configuration.
func (p *Tart) Configure(raws ...any) error {
	return config.Decode(&p.config, &config.DecodeOpts{
		PluginType:         BuilderID + ".tart",
		Interpolate:        true,
		InterpolateContext: &p.config.ctx,
	}, raws...)
}

// PostProcess writes the VM. The raw disk is kept only when the template says
// keep_input_artifact.
func (p *Tart) PostProcess(ctx context.Context, ui packersdk.Ui, in packersdk.Artifact) (packersdk.Artifact, bool, bool, error) {
	if in.BuilderId() != BuilderID {
		return nil, false, false, fmt.Errorf("rootvm-tart takes the artifact of the builder %q, not of %q", BuilderID, in.BuilderId())
	}
	raw, manifestPath := in.Files()[0], in.Files()[1]
	manifest, err := builders.ReadManifest(manifestPath)
	if err != nil {
		return nil, false, false, err
	}

	image := tart.New(builders.Spec{
		Suite: manifest.Suite, Architecture: manifest.Architecture, SourceDateEpoch: manifest.SourceDateEpoch,
	}, raw)
	vm := filepath.Join(filepath.Dir(raw), in.Id()+".tart")
	artifact := vm + ".oci"

	watch := builders.Stopwatch{Now: time.Now, Steps: manifest.Steps}
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"Write the Tart VM", func() error { return image.WriteDirectory(ctx, vm) }},
		{"Pack the Tart artifact", func() error { return image.WriteLayout(ctx, artifact) }},
		{"Check both", func() error { return checkTart(ctx, vm, artifact) }},
	} {
		ui.Say(step.name)
		if err := watch.Time(step.name, func() (bool, error) { return false, step.run() }); err != nil {
			return nil, false, false, err
		}
		ui.Say(describe(watch.Steps[len(watch.Steps)-1]))
	}

	manifest.Steps = watch.Steps
	for dir, format := range map[string]string{vm: builders.TartFormat, artifact: builders.TartArtifactFormat} {
		files, err := builders.DescribeDirectory(dir, format)
		if err != nil {
			return nil, false, false, err
		}
		manifest.Artifacts = append(manifest.Artifacts, files...)
	}
	manifest.SortArtifacts()
	if err := manifest.Write(manifestPath); err != nil {
		return nil, false, false, err
	}
	return &Artifact{Manifest: manifestPath, Raw: raw, Name: in.Id()}, false, false, nil
}

// checkTart reads what was written: the artifact holds the VM's disk.
func checkTart(ctx context.Context, vm, artifact string) error {
	if err := tartcheck.Directory(vm); err != nil {
		return err
	}
	return tartcheck.Layout(ctx, artifact, filepath.Join(vm, "disk.img"))
}
