// Package userns runs commands as the root of a root file system, without
// being root: in a user namespace that maps the caller to root and the
// caller's subordinate IDs to everyone else, or, when the caller is root, in a
// mount and PID namespace alone.
//
// All entering is by unshare(1) and one embedded script. Mounts live in the
// mount namespace of one command and end with it; a cancelled command, or a
// killed caller, takes every process of its namespace along.
//
// Only Linux has such namespaces: elsewhere the package compiles, so that what
// shares code with the builders does, and [New] fails.
//
// The package owns no state. It imports nothing of this project.
package userns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Namespace is a way to be root over files: the caller's own, as root, or a
// user namespace with the caller's subordinate IDs. Make it with [New]. It is
// safe for concurrent use: every command gets namespaces of its own.
type Namespace struct {
	unshare string   // path of unshare(1)
	root    bool     // the caller is the machine's root
	maps    []string // its options that map the caller's subordinate IDs
	offline bool     // commands have no network
}

// Offline is the same way for commands that have no network, not even the
// host's loopback interface.
func (n *Namespace) Offline() *Namespace {
	offline := *n
	offline.offline = true
	return &offline
}

// flags of unshare(1). All of a command's processes are below one PID 1, which
// --kill-child ends when unshare itself is killed.
func (n *Namespace) flags() []string {
	f := []string{"--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"}
	if n.offline {
		f = append(f, "--net")
	}
	if !n.root {
		f = slices.Concat([]string{"--user", "--map-root-user"}, n.maps, f)
	}
	return f
}

// Rootless tells whether files are owned through subordinate IDs.
func (n *Namespace) Rootless() bool { return !n.root }

// Command prepares argv, a command of the host, to run as root of the
// namespace with the host's file system. Its /proc is the namespace's own.
// When ctx ends, or the calling process dies, all its processes are killed.
func (n *Namespace) Command(ctx context.Context, argv ...string) *exec.Cmd {
	return n.command(ctx, append([]string{"--mount-proc", "--"}, argv...)...)
}

func (n *Namespace) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, n.unshare, append(n.flags(), args...)...)
	cmd.SysProcAttr = tied()
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// Interruptible lets cmd, prepared by [Namespace.Command], clean up when its ctx
// ends: its processes get SIGTERM, and are killed after cmd.WaitDelay.
func Interruptible(cmd *exec.Cmd) {
	cmd.Cancel = func() error {
		if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
			return err // it has ended, and the group may be another's
		}
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	}
}

// RemoveAll removes dir and all it holds, whoever owns it. A dir that does
// not exist is no error.
func (n *Namespace) RemoveAll(dir string) error {
	if n.root {
		return os.RemoveAll(dir)
	}
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if out, err := n.Command(context.Background(), "rm", "-rf", "--one-file-system", "--", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("remove %s: %w: %s", dir, err, lastLine(out))
	}
	return nil
}

// Run runs cmd and returns an error that says op and what cmd complained of.
func Run(ctx context.Context, cmd *exec.Cmd, op string) error {
	var stderr tail
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	case stderr.line() != "":
		return fmt.Errorf("%s: %w: %s", op, err, stderr.line())
	}
	return fmt.Errorf("%s: %w", op, err)
}

// tail keeps the last bytes written to it, for error messages.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - 4096; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) line() string { return lastLine(t.b) }

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
