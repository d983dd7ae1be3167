package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/userns"
)

// cancelLimit is how long Packer may clean up after an interrupt.
const cancelLimit = 30 * time.Second

// nodeCPUs are npm's names for processors by Debian's.
var nodeCPUs = map[string]string{"amd64": "x64", "arm64": "arm64"}

// node installs the npm lock of the directory source, a path in the checkout,
// for an architecture and returns its node_modules directory. That is kept in
// the cache under the digest of the lock.
func (p *Pipeline) node(ctx context.Context, tools *bootstrap.Tools, source, architecture string) (dir string, cached bool, err error) {
	digest, err := digestFiles(filepath.Join(p.Settings.Source, source))
	if err != nil {
		return "", false, err
	}
	root := filepath.Join(p.Settings.CacheDir, "npm")
	tree := filepath.Join(root, digest[:32])
	if architecture != hostArchitecture() {
		tree += "-" + architecture
	}
	dir = filepath.Join(tree, "node_modules")
	if _, err := os.Stat(dir); err == nil {
		return dir, true, nil
	}
	npm, err := p.npmInstall(ctx, tools, architecture, "--cache", filepath.Join(root, "cache"))
	if err != nil {
		return "", false, err
	}
	work := filepath.Join(root, "work")
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(root, 0o755), os.CopyFS(work, os.DirFS(filepath.Join(p.Settings.Source, source)))); err != nil {
		return "", false, err
	}
	npm.Dir, npm.Stdout, npm.Stderr = work, p.Out, p.Out
	if err := npm.Run(); err != nil {
		return "", false, fmt.Errorf("npm ci: %w", err)
	}
	return dir, false, os.Rename(work, tree)
}

// npmInstall prepares npm to install a lock. The tools tree's npm installs
// what this host can load; for another architecture it is the newer one of the
// workspace image's lock, which can be told which.
func (p *Pipeline) npmInstall(ctx context.Context, tools *bootstrap.Tools, architecture string, args ...string) (*exec.Cmd, error) {
	ns, err := userns.New()
	if err != nil {
		return nil, err
	}
	// --force: npm 9 refuses a lock that names another platform's packages.
	args = append([]string{"ci", "--ignore-scripts", "--omit=dev", "--legacy-peer-deps", "--no-audit", "--no-fund", "--force", "--loglevel=error"}, args...)
	if architecture == hostArchitecture() {
		return tools.NPM(ctx, ns, args...), nil
	}
	own, _, err := p.node(ctx, tools, "images/workspace/node", hostArchitecture())
	if err != nil {
		return nil, err
	}
	return tools.Node(ctx, ns, filepath.Join(own, "npm", "bin", "npm-cli.js"), append(args, "--os=linux", "--libc=glibc", "--cpu="+nodeCPUs[architecture])...), nil
}

// inputs names everything the image is made from: the Spec, the lock, the
// template, the provisioning files and what was staged. The plugin stands for
// the code that shapes the disk, and its digest for the workspace image.
func (p *Pipeline) inputs(stage, workspace string) (string, error) {
	spec := p.Settings.Spec
	lock, err := bootstrap.Lock(spec.Suite, spec.Architecture, "rootvm")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %d %d %s %s\n", spec.Name(), spec.DiskSize, spec.SourceDateEpoch, lock.Digest(), workspace)
	for _, path := range []string{
		filepath.Join(p.Settings.Source, "packer"),
		filepath.Join(p.Settings.Source, "provision"),
		filepath.Join(p.Settings.Source, "templates"),
		stage, p.plugin(),
	} {
		d, err := digestFiles(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, d)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// digestFiles is the SHA-256, in hexadecimal, over the names, modes and
// contents of the files at or below path.
func digestFiles(path string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(path, file)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %o %d\n", rel, info.Mode(), info.Size())
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(h, f)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("digest %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
