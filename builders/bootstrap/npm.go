package bootstrap

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/store"
	"github.com/rockpool/rootvm/builders/userns"
)

//go:embed scripts/npm.sh
var npmScript string

// npmProgram digests, in hexadecimal, what [Tools.NPM] runs: the tools trees of
// all architectures, by their locks, and the script that starts npm in one. It
// is the same on every host.
func npmProgram() (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, npmScript)
	for _, arch := range builders.Architectures {
		l, err := LoadPackageLock(ToolsSuite, arch, "tools")
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, l.Digest())
	}
	return sum(h), nil
}

// NPM prepares the tree's npm to run as root of the namespace with the host's
// files, network and environment. The registry is npm's own default, or what
// the user's configuration says.
func (t *Tools) NPM(ctx context.Context, ns *userns.Namespace, args ...string) *exec.Cmd {
	return t.Node(ctx, ns, "/usr/share/nodejs/npm/bin/npm-cli.js", args...)
}

// Node prepares the tree's Node.js to run a script of the host's in the same
// way.
func (t *Tools) Node(ctx context.Context, ns *userns.Namespace, script string, args ...string) *exec.Cmd {
	node, err := t.Argv("node")
	if err != nil {
		cmd := exec.CommandContext(ctx, "node")
		cmd.Err = err
		return cmd
	}
	argv := append([]string{"/bin/bash", "-c", npmScript, "npm", t.Path("usr/share/nodejs")}, node...)
	cmd := ns.Command(ctx, append(append(argv, script), args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "NODE_PATH=/usr/share/nodejs:"+t.Path("usr/lib/"+multiarch[runtime.GOARCH]+"/nodejs"))
	return cmd
}

// nodeCPUs are npm's names for processors by Debian's.
var nodeCPUs = map[string]string{"amd64": "x64", "arm64": "arm64"}

// npmArguments make npm install a lock.
// --force: npm 9 refuses a lock that names another platform's packages.
var npmArguments = []string{"ci", "--ignore-scripts", "--omit=dev", "--legacy-peer-deps", "--no-audit", "--no-fund", "--force", "--loglevel=error"}

// npmPlatform are the arguments for an architecture that is not the host's.
func npmPlatform(architecture string) []string {
	return []string{"--os=linux", "--libc=glibc", "--cpu=" + nodeCPUs[architecture]}
}

// NPMKey digests, in hexadecimal, by what an npm lock is installed for an
// architecture. It is the same on every host.
func NPMKey(architecture string) (string, error) {
	program, err := npmProgram()
	if err != nil {
		return "", err
	}
	return builders.DigestOf(program, npmArguments, npmPlatform(architecture)), nil
}

// NodeModules installs the npm locks of a checkout and keeps the trees in the
// cache's store.
type NodeModules struct {
	Cache  Cache
	Source string // the checkout
	// Installer is the lock, a directory below Source, whose npm installs what
	// the tools tree's cannot: the packages of an architecture that is not the
	// host's.
	Installer string
	Tools     *Tools
	Out       io.Writer // what npm says
}

// recipe is what the tree that Install returns is made from.
func (n NodeModules) recipe(source, architecture string) (store.Recipe, error) {
	r := store.Recipe{Step: "npm"}
	npm, err := NPMKey(architecture)
	if err != nil {
		return r, err
	}
	r.Value("npm", npm)
	if err := r.Files("npm lock", filepath.Join(n.Source, source)); err != nil || architecture == runtime.GOARCH {
		return r, err
	}
	return r, r.Files("npm lock of the newer npm", filepath.Join(n.Source, n.Installer))
}

// Install installs the npm lock of the directory source, a path below
// n.Source, for an architecture and returns its node_modules directory.
func (n NodeModules) Install(ctx context.Context, source, architecture string) (dir string, cached bool, err error) {
	recipe, err := n.recipe(source, architecture)
	if err != nil {
		return "", false, err
	}
	dir, cached, err = n.Cache.Store().Make(ctx, recipe, func(ctx context.Context, dir string) error {
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(n.Source, source))); err != nil {
			return err
		}
		npm, err := n.command(ctx, architecture, "--cache", filepath.Join(n.Cache.Dir, "npm", "cache"))
		if err != nil {
			return err
		}
		npm.Dir, npm.Stdout, npm.Stderr = dir, n.Out, n.Out
		if err := npm.Run(); err != nil {
			return fmt.Errorf("npm ci: %w", err)
		}
		return nil
	})
	return filepath.Join(dir, "node_modules"), cached, err
}

// command prepares npm to install a lock. The tools tree's npm installs what
// this host can load; for another architecture it is the newer one of the
// Installer, which can be told which.
func (n NodeModules) command(ctx context.Context, architecture string, args ...string) (*exec.Cmd, error) {
	ns, err := userns.New()
	if err != nil {
		return nil, err
	}
	args = slices.Concat(npmArguments, args)
	if architecture == runtime.GOARCH {
		return n.Tools.NPM(ctx, ns, args...), nil
	}
	own, _, err := n.Install(ctx, n.Installer, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	return n.Tools.Node(ctx, ns, filepath.Join(own, "npm", "bin", "npm-cli.js"), append(args, npmPlatform(architecture)...)...), nil
}
