//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config,QCOW2Config,TartConfig

// Package rootvm is the Packer plugin's inside: a builder that makes the Root
// VM's disk without booting it, and post-processors that pack the disk as qcow2
// and as a VM for Tart. It owns a work directory for the length of one build and writes
// finished files to an output directory; it knows nothing of the host that
// will run the image and must not import the agent.
package rootvm

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/rockpool/rootvm/builders"
)

// Config is the `source "rootvm"` block.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`

	// Spec decides the image's bytes. Its format "raw" keeps the raw disk; the
	// others are up to post-processors.
	builders.Spec `mapstructure:",squash"`

	// CacheDirectory holds packages, tools and layers between builds.
	CacheDirectory string `mapstructure:"cache_directory" required:"true"`
	// WorkDirectory is emptied at the start of a build and again at its end.
	WorkDirectory string `mapstructure:"work_directory" required:"true"`
	// OutputDirectory receives the finished files.
	OutputDirectory string `mapstructure:"output_directory" required:"true"`
	// Mirrors are base addresses of Debian archives, tried in order. Empty
	// means the build host's own.
	Mirrors []string `mapstructure:"mirrors"`
	// WorkspaceRootfs is an archive of the workspace's root file system, at the
	// paths where the image has it. Its members are laid over the finished root
	// file system, where nothing but directories may be already. Empty means
	// none.
	WorkspaceRootfs string `mapstructure:"workspace_rootfs"`
	// Revision of the sources, recorded in the manifest.
	Revision string `mapstructure:"revision"`
	// InputDigest names everything the image is made from, recorded in the
	// manifest.
	InputDigest string `mapstructure:"input_digest"`

	ctx interpolate.Context
}

// decode fills c from Packer's raw configuration and reports every fault.
func (c *Config) decode(raws ...any) error {
	err := config.Decode(c, &config.DecodeOpts{
		PluginType:         BuilderID,
		Interpolate:        true,
		InterpolateContext: &c.ctx,
	}, raws...)
	if err != nil {
		return err
	}

	c.FillDefaults()
	faults := []error{c.Validate()}
	for name, path := range map[string]string{
		"cache_directory":  c.CacheDirectory,
		"work_directory":   c.WorkDirectory,
		"output_directory": c.OutputDirectory,
	} {
		if !filepath.IsAbs(path) {
			faults = append(faults, fmt.Errorf("%s %q must be an absolute path", name, path))
		}
	}

	if c.WorkspaceRootfs != "" && !filepath.IsAbs(c.WorkspaceRootfs) {
		faults = append(faults, fmt.Errorf("workspace_rootfs %q must be an absolute path", c.WorkspaceRootfs))
	}
	if c.WorkDirectory != "" && within(c.OutputDirectory, c.WorkDirectory) {
		faults = append(faults, errors.New("output_directory must not lie in work_directory, which is emptied"))
	}
	return errors.Join(faults...)
}

// path is a file of the finished image.
func (c *Config) path(suffix string) string {
	return filepath.Join(c.OutputDirectory, c.Name()+suffix)
}

func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
