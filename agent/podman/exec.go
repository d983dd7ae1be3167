//go:build remote

package podman

import (
	"bufio"
	"context"
	"io"
	"strings"
	"time"

	"github.com/containers/podman/v5/pkg/api/handlers"
	"github.com/containers/podman/v5/pkg/bindings/containers"
	docker "github.com/docker/docker/api/types/container"
)

// command is a program to run in a workspace as its user.
type command struct {
	argv, env []string
	stdin     string // in no argument and in no log
}

// maxOutput is how much of a program's output is kept, its end, in bytes.
const maxOutput = 16 << 10

// cleanTime bounds the removal of a session whose caller may be gone.
const cleanTime = 5 * time.Second

// exec runs a program and returns its exit code and the end of its output. The
// connection of ctx is used up by it. When ctx ends the program is killed, as
// far as the service can (Podman 4.8).
func (e *Engine) exec(ctx context.Context, id string, c command) (code int, output string, err error) {
	session, err := containers.ExecCreate(ctx, containerName(id), &handlers.ExecCreateConfig{ExecOptions: docker.ExecOptions{
		Cmd: c.argv, Env: c.env, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	}})
	if err != nil {
		return 0, "", err
	}
	defer e.forget(ctx, id, session)
	var out tail
	options := new(containers.ExecStartAndAttachOptions).
		WithInputStream(*bufio.NewReader(strings.NewReader(c.stdin))).WithAttachInput(true).
		WithOutputStream(&out).WithAttachOutput(true).
		WithErrorStream(&out).WithAttachError(true)
	if err := containers.ExecStartAndAttach(ctx, session, options); err != nil {
		return 0, "", err
	}

	err = e.call(ctx, "exec", func(ctx context.Context) error {
		result, err := containers.ExecInspect(ctx, session, nil)
		if err == nil {
			code = result.ExitCode
		}
		return err
	})
	return code, string(out), err
}

// forget removes a session, which Podman would keep for five minutes. Older
// ones cannot be asked to.
func (e *Engine) forget(ctx context.Context, id, session string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	err := e.call(ctx, "forget exec", func(ctx context.Context) error {
		return containers.ExecRemove(ctx, session, new(containers.ExecRemoveOptions).WithForce(true))
	})
	if err != nil && !isNotFound(err) {
		e.Log.Debug("an exec session stays for a while", "workspace", id, "err", err)
	}
}

// tail keeps the last maxOutput bytes that are written to it.
type tail []byte

var _ io.Writer = (*tail)(nil)

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	if extra := len(*t) - maxOutput; extra > 0 {
		*t = append((*t)[:0], (*t)[extra:]...)
	}
	return len(p), nil
}
