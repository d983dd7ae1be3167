//go:build remote

package podman

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

// cloneScript is a program, not a template: what it works on are its
// arguments and its standard input.
//
//go:embed clone.sh
var cloneScript string

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
			argv: []string{"sh", "-c", cloneScript, "clone", c.URL, c.Folder},
			// Nobody is there to be asked, and only protocols of the network
			// are for users to name.
			env:   []string{"GIT_TERMINAL_PROMPT=0", "GIT_PROTOCOL_FROM_USER=0", "LC_ALL=C.UTF-8"},
			stdin: c.Token + "\n",
		})
		if err != nil {
			return err
		}
		return cloneResult(code, output, c)
	})
}

// cloneResult says what an exit code means to the user.
func cloneResult(code int, output string, c agent.Clone) error {
	if c.Token != "" {
		output = strings.ReplaceAll(output, c.Token, "…")
	}
	output = strings.Join(strings.Fields(output), " ")
	switch code {
	case 0:
		return nil
	case exitNoGit:
		return agent.Errorf(agent.CodeValidation, "The image has no git, so the repository cannot be cloned")
	case exitTaken:
		return agent.Errorf(agent.CodeConflict, "The folder %s holds something else. Move it away, or create a workspace without a repository.", c.Folder)
	case exitFailed:
		if hopeless(output) {
			return agent.Errorf(agent.CodeValidation, "The repository %s does not exist or needs a token that may read it", c.URL)
		}
	}
	return fmt.Errorf("git ended with code %d: %.500s", code, output)
}

// hopeless tells a refusal of the server from a fault on the way to it.
func hopeless(output string) bool {
	for _, s := range []string{"Authentication failed", "could not read Username", "not found", "error: 403", "error: 401"} {
		if strings.Contains(output, s) {
			return true
		}
	}
	return false
}
