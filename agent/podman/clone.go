//go:build remote

package podman

import (
	"context"
	_ "embed"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

// cloneScript is a program, not a template: what it works on are its
// arguments and its standard input.
//
//go:embed clone.sh
var cloneScript string

// workspaceLog is, inside a workspace, what its log is made of.
const workspaceLog = "/proc/1/fd/2"

// The exit codes of clone.sh, after sysexits(3).
const (
	exitNoGit  = 69
	exitTaken  = 73
	exitFailed = 74
)

// Clone implements [agent.Runtime].
func (e *Engine) Clone(ctx context.Context, id string, c agent.Clone) error {
	if !strings.HasPrefix(c.Folder, "/") || strings.ContainsAny(c.Token, "\r\n") {
		return agent.Errorf(agent.CodeValidation, "The repository cannot be cloned with these values")
	}
	return e.call(ctx, "clone", func(ctx context.Context) error {
		if _, err := running(ctx, id); err != nil {
			return err
		}
		code, output, err := e.exec(ctx, id, command{
			argv:  []string{"sh", "-c", cloneScript, "clone", c.URL, c.Folder, workspaceLog},
			env:   cloneEnv,
			stdin: c.Token + "\n",
		})
		if err != nil {
			return err
		}
		return cloneResult(code, output, c)
	})
}
