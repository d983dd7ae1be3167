package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/images"
)

// definition are the paths of the checkout that decide the image, as git takes
// them: but for go.mod, most of whose changes have nothing to do with it.
var definition = []string{
	"images", "cmd/workspace-image", "builders/bootstrap/locks", "builders/bootstrap/scripts",
	"builders/userns/tar.go", "builders/bootstrap/npm.go", ":(exclude)*_test.go",
	":(exclude)images/pipeline", ":(exclude)images/registry", ":(exclude)images/oci/ocitest", // as [leading]
}

// inputDigest names everything the image is made from. The modules that shape
// its bytes stand for the builder's code that is not ours, and the reference of
// a base that is not ours for the image that it names.
func (b *build) inputDigest(ctx context.Context) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, b.spec.Digest())

	for _, platform := range b.spec.Platforms {
		fmt.Fprintln(h, platform, b.packages[platform].Digest())
		if b.spec.Base == "" {
			key, err := bootstrap.RootfsKey(ctx, b.packages[platform])
			if err != nil {
				return "", err
			}
			fmt.Fprintln(h, key)
		}
		npm, err := bootstrap.NPMKey(images.Architecture(platform))
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, npm)
	}

	files, err := b.definitionFiles()
	if err != nil {
		return "", err
	}
	for _, file := range files {
		d, err := builders.DigestFiles(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, d)
	}

	modules, err := os.ReadFile(filepath.Join(b.Source, "go.mod"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(modules)) {
		if strings.Contains(line, "/buildah ") || strings.Contains(line, "go.podman.io/") || strings.Contains(line, "/compress ") {
			fmt.Fprintln(h, strings.Fields(line))
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// mounted digests what the Containerfile's steps mount for a platform: the
// definition, and npm's trees by the locks in it and what installs them.
func (b *build) mounted(platform string) (string, error) {
	definition, err := builders.DigestFiles(filepath.Join(b.Source, "images", "workspace"))
	if err != nil {
		return "", err
	}
	npm, err := bootstrap.NPMKey(images.Architecture(platform))
	return builders.DigestOf(definition, npm), err
}

// leading are the directories below images whose code leads the image where it
// goes and does not shape it.
var leading = []string{"images/pipeline", "images/registry"}

// definitionFiles are the directory of the definition and the code that builds
// it, without its tests.
func (b *build) definitionFiles() ([]string, error) {
	files := []string{filepath.Join(b.Source, "images", "workspace")}
	for _, dir := range []string{"images", "images/*", "cmd/workspace-image"} {
		code, err := filepath.Glob(filepath.Join(b.Source, dir, "*.go"))
		if err != nil {
			return nil, err
		}
		files = append(files, code...)
	}
	return slices.DeleteFunc(files, func(file string) bool {
		leads := slices.ContainsFunc(leading, func(dir string) bool { return filepath.Dir(file) == filepath.Join(b.Source, dir) })
		return leads || strings.HasSuffix(file, "_test.go")
	}), nil
}
