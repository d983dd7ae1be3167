package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/toolchain"
)

// madeFrom are the files and directories of the checkout that an image is made
// from: those whose content is in it and those of the programs that are compiled
// for it or shape it.
var madeFrom = []string{
	"agent", "builders", "cmd/packer-plugin-rootvm", "cmd/rockpool-agent", "cmd/rockpool-queue", "cmd/workspace-image",
	"go.mod", "go.sum", "guest", "images", "packer", "provision", "queue", "templates",
}

// commitPaths are [madeFrom] as git takes them, without what
// [builders.DigestSources] leaves out: a commit that changes none of it makes no
// other image.
func commitPaths() []string {
	return slices.Concat(madeFrom, []string{
		":(exclude,glob)**/*_test.go", ":(exclude,glob)**/testdata/**", ":(exclude,glob)**/node_modules/**",
	})
}

// revision is that of the checkout.
func (p *Pipeline) revision(ctx context.Context) string {
	return toolchain.Revision(ctx, p.Source, madeFrom...)
}

// sourceDigest names what [Pipeline.inputs] is made from. It is there at once,
// since nothing has to be compiled for it, and errs on the side of a build: what
// compiles to the same programs makes the same image.
func (p *Pipeline) sourceDigest() (string, error) {
	workspace, err := json.Marshal(p.WorkspaceImage)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, p.Spec.Digest(), string(workspace))

	for _, path := range madeFrom {
		digest, err := builders.DigestSources(filepath.Join(p.Source, path))
		if err != nil {
			return "", fmt.Errorf("digest the sources: %w", err)
		}
		fmt.Fprintln(h, path, digest)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// inputs names everything the image is made from: the Spec, the package lock,
// the template, the provisioning files and what was staged; tests aside, as in
// [Pipeline.sourceDigest]. The plugin stands for the code that shapes the disk,
// and its digest for the workspace image.
func (p *Pipeline) inputs(workspaceImage string) (string, error) {
	packages, err := bootstrap.LoadPackageLock(p.Spec.Suite, p.Spec.Architecture, "rootvm")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, p.Spec.Digest(), packages.Digest(), workspaceImage)

	for _, path := range []string{"packer", "provision", "templates"} {
		d, err := builders.DigestSources(filepath.Join(p.Source, path))
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, d)
	}
	for _, made := range []string{p.stage(), p.plugin()} {
		d, err := builders.DigestFiles(made)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, d)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
