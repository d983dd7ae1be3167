package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/userns"
)

// nodeCPUs are npm's names for processors by Debian's.
var nodeCPUs = map[string]string{"amd64": "x64", "arm64": "arm64"}

// nodeSource is the npm lock, a path in the checkout, whose npm installs what
// the tools tree's cannot.
const nodeSource = "images/workspace/node"

// npmArguments make npm install a lock.
// --force: npm 9 refuses a lock that names another platform's packages.
var npmArguments = []string{"ci", "--ignore-scripts", "--omit=dev", "--legacy-peer-deps", "--no-audit", "--no-fund", "--force", "--loglevel=error"}

// npmPlatform are the arguments for an architecture that is not the host's.
func npmPlatform(architecture string) []string {
	return []string{"--os=linux", "--libc=glibc", "--cpu=" + nodeCPUs[architecture]}
}

// npmKey digests by what a lock is installed for an architecture. It is the same
// on every host.
func npmKey(architecture string) (string, error) {
	npm, err := bootstrap.NPMKey()
	if err != nil {
		return "", err
	}
	return digestOf(npm, npmArguments, npmPlatform(architecture)), nil
}

// nodeKey digests what the directory that node returns is made from.
func (p *Pipeline) nodeKey(source, architecture string) (string, error) {
	npm, err := npmKey(architecture)
	if err != nil {
		return "", err
	}
	lock, err := digestFiles(filepath.Join(p.Settings.Source, source))
	if err != nil || architecture == hostArchitecture() {
		return digestOf(npm, lock), err
	}
	own, err := digestFiles(filepath.Join(p.Settings.Source, nodeSource))
	return digestOf(npm, lock, own), err
}

// digestOf is the SHA-256 over the parts, in hexadecimal.
func digestOf(parts ...any) string {
	sum := sha256.Sum256([]byte(fmt.Sprintln(parts...)))
	return hex.EncodeToString(sum[:])
}

// node installs the npm lock of the directory source, a path in the checkout,
// for an architecture and returns its node_modules directory. That is kept in
// the cache under its key.
func (p *Pipeline) node(ctx context.Context, tools *bootstrap.Tools, source, architecture string) (dir string, cached bool, err error) {
	key, err := p.nodeKey(source, architecture)
	if err != nil {
		return "", false, err
	}
	root := filepath.Join(p.Settings.CacheDir, "npm")
	tree := filepath.Join(root, key[:32])
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
	args = slices.Concat(npmArguments, args)
	if architecture == hostArchitecture() {
		return tools.NPM(ctx, ns, args...), nil
	}
	own, _, err := p.node(ctx, tools, nodeSource, hostArchitecture())
	if err != nil {
		return nil, err
	}
	return tools.Node(ctx, ns, filepath.Join(own, "npm", "bin", "npm-cli.js"), append(args, npmPlatform(architecture)...)...), nil
}
