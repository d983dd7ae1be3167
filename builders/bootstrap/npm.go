package bootstrap

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/userns"
)

//go:embed scripts/npm.sh
var npmScript string

// NPMKey digests, in hexadecimal, what [Tools.NPM] runs: the tools trees of all
// architectures, by their locks, and the script that starts npm in one. It is
// the same on every host.
func NPMKey() (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, npmScript)
	for _, arch := range builders.Architectures {
		l, err := Lock(toolsSuite, arch, "tools")
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
