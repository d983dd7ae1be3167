package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
)

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
