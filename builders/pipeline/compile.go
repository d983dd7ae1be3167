package pipeline

import (
	"context"
	"os"
	"path/filepath"

	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/templates"
)

// plugin is the Packer plugin that builds the image.
func (p *Pipeline) plugin() string {
	return filepath.Join(p.CacheDir, "bin", "packer-plugin-rootvm")
}

// stage is the directory of what is compiled and rendered for the image.
func (p *Pipeline) stage() string { return filepath.Join(p.CacheDir, "stage", p.Spec.Name()) }

// compile builds what goes into the image, into the stage, and the plugin that
// builds it, into the cache.
func (p *Pipeline) compile(ctx context.Context) error {
	if err := os.MkdirAll(p.stage(), 0o755); err != nil {
		return err
	}
	for _, program := range []struct {
		dir, pkg, file string
		options        toolchain.Options
	}{
		{p.Source, "./cmd/rockpool-agent", filepath.Join(p.stage(), "rockpool-agent"), toolchain.Agent},
		{p.Source, "./cmd/rockpool-queue", filepath.Join(p.stage(), "rockpool-queue"), toolchain.Plain},
		{p.Source, "./cmd/packer-plugin-rootvm", p.plugin(), toolchain.Plain},
	} {
		if err := toolchain.Build(ctx, program.dir, program.pkg, program.file, program.options, p.Out); err != nil {
			return err
		}
	}

	rendered := filepath.Join(p.stage(), "templates")
	if err := os.RemoveAll(rendered); err != nil {
		return err
	}
	return templates.Write(rendered, templates.Defaults())
}
