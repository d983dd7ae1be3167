package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/toolchain"
)

// madeFrom are the files and directories of the checkout that an image is made
// from: those whose content is in it and those of the programs that are compiled
// for it or shape it.
var madeFrom = []string{
	"agent", "builders", "cmd/packer-plugin-rootvm", "cmd/rockpool-agent", "cmd/workspace-image",
	"go.mod", "go.sum", "guest", "images", "packer", "provision", "templates",
}

// revision is that of the checkout.
func (p *Pipeline) revision(ctx context.Context) string {
	return toolchain.Revision(ctx, p.Source, madeFrom...)
}

// sourceDigest names what [Pipeline.inputs] is made from, tests aside. It is
// there at once, since nothing has to be compiled for it, and errs on the side of
// a build: what compiles to the same programs makes the same image.
func (p *Pipeline) sourceDigest() (string, error) {
	workspace, err := json.Marshal(p.WorkspaceImage)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, p.Spec.Digest(), string(workspace))

	for _, path := range madeFrom {
		err := filepath.WalkDir(filepath.Join(p.Source, path), func(file string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules"):
				return filepath.SkipDir
			case d.IsDir() || strings.HasSuffix(file, "_test.go"):
				return nil
			}
			if d.Type()&fs.ModeSymlink != 0 { // it may lead nowhere, as an editor's lock does
				target, err := os.Readlink(file)
				fmt.Fprintln(h, strings.TrimPrefix(file, p.Source), target)
				return err
			}
			digest, err := builders.DigestFiles(file)
			fmt.Fprintln(h, strings.TrimPrefix(file, p.Source), digest)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("digest the sources: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// inputs names everything the image is made from: the Spec, the package lock,
// the template, the provisioning files and what was staged. The plugin stands
// for the code that shapes the disk, and its digest for the workspace image.
func (p *Pipeline) inputs(workspaceImage string) (string, error) {
	packages, err := bootstrap.LoadPackageLock(p.Spec.Suite, p.Spec.Architecture, "rootvm")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, p.Spec.Digest(), packages.Digest(), workspaceImage)

	for _, path := range []string{
		filepath.Join(p.Source, "packer"),
		filepath.Join(p.Source, "provision"),
		filepath.Join(p.Source, "templates"),
		p.stage(), p.plugin(),
	} {
		d, err := builders.DigestFiles(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, d)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
