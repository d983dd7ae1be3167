package rootvm

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/contents"
	"github.com/rockpool/rootvm/builders/disk"
)

// QCOW2Config is the `post-processor "rootvm-qcow2"` block.
type QCOW2Config struct {
	common.PackerConfig `mapstructure:",squash"`

	// CacheDirectory is the builder's, which holds the tools tree.
	CacheDirectory string `mapstructure:"cache_directory" required:"true"`

	ctx interpolate.Context
}

// QCOW2 packs the builder's raw disk as a compressed qcow2 beside it and adds
// it to the manifest.
type QCOW2 struct {
	config QCOW2Config
}

var _ packersdk.PostProcessor = (*QCOW2)(nil)

// ConfigSpec is the HCL schema of [QCOW2Config].
func (p *QCOW2) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// Configure validates the configuration.
func (p *QCOW2) Configure(raws ...any) error {
	err := config.Decode(&p.config, &config.DecodeOpts{
		PluginType:         BuilderID + ".qcow2",
		Interpolate:        true,
		InterpolateContext: &p.config.ctx,
	}, raws...)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(p.config.CacheDirectory) {
		return fmt.Errorf("cache_directory %q must be an absolute path", p.config.CacheDirectory)
	}
	return nil
}

// PostProcess writes the qcow2. The raw disk is kept only when the template
// says keep_input_artifact.
func (p *QCOW2) PostProcess(ctx context.Context, ui packersdk.Ui, in packersdk.Artifact) (packersdk.Artifact, bool, bool, error) {
	if in.BuilderId() != BuilderID {
		return nil, false, false, fmt.Errorf("rootvm-qcow2 takes the artifact of the builder %q, not of %q", BuilderID, in.BuilderId())
	}
	raw, manifestPath := in.Files()[0], in.Files()[1]
	out := filepath.Join(filepath.Dir(raw), in.Id()+".qcow2")

	fetcher := &bootstrap.Fetcher{Cache: bootstrap.Cache{Dir: p.config.CacheDirectory, Say: ui.Say}}
	tools, err := fetcher.Tools(ctx)
	if err != nil {
		return nil, false, false, err
	}
	manifest, err := builders.ReadManifest(manifestPath)
	if err != nil {
		return nil, false, false, err
	}
	watch := builders.Stopwatch{Now: time.Now, Steps: manifest.Steps}
	ui.Say("Pack as qcow2")
	err = watch.Time("Pack as qcow2", func() (bool, error) { return false, disk.QCOW2(ctx, tools, raw, out) })
	if err != nil {
		return nil, false, false, err
	}
	artifact, err := builders.Describe(out, "qcow2")
	if err != nil {
		return nil, false, false, err
	}
	listed, err := listQCOW2(out)
	if err != nil {
		return nil, false, false, err
	}
	manifest.Steps = watch.Steps
	manifest.SetArtifacts(artifact, listed)
	if err := manifest.Write(manifestPath); err != nil {
		return nil, false, false, err
	}
	ui.Say(fmt.Sprintf("%s, %d MB", filepath.Base(out), artifact.Size/1e6))
	return &Artifact{Manifest: manifestPath, Raw: raw, Name: in.Id()}, false, false, nil
}

// listQCOW2 adds the structures of the qcow2 to the list of the disk's contents
// beside it, and describes that.
func listQCOW2(qcow2 string) (builders.Artifact, error) {
	file := strings.TrimSuffix(qcow2, ".qcow2") + contents.Suffix
	list, err := contents.Read(file)
	if err != nil {
		return builders.Artifact{}, err
	}
	if err := list.AddQCOW2(qcow2); err != nil {
		return builders.Artifact{}, err
	}
	if err := list.Write(file); err != nil {
		return builders.Artifact{}, err
	}
	return builders.Describe(file, contents.Format)
}
