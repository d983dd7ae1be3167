package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// agentUser is whose files and sockets the agent's are.
const agentUser = "rockpool"

// needsAgentUser reports whether path belongs to somebody else: the agent's
// user. root could use it, but files that SQLite made beside it would then be
// root's.
func needsAgentUser(path string) bool {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrPermission) {
		return true
	}
	if err != nil {
		return false
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		return sys.Uid != 0
	}
	return errors.Is(unix.Access(path, unix.W_OK), unix.EACCES)
}

// exitCode is the end of a command that has said itself what was wrong, such as
// one that ran in another process.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// asAgentUser runs this program as the agent's user. The SSH user may do so by
// sudo, and only by asking for it: it is no member of the agent's group, so
// that nothing that merely runs as that user, such as a forwarded socket,
// reaches the agent without credentials.
func asAgentUser(ctx context.Context, s streams, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("run as user %s: %w", agentUser, err)
	}
	sudo, err := exec.LookPath("sudo")
	if err != nil {
		return fmt.Errorf("run as user %s: there is no sudo: run this command as that user", agentUser)
	}
	cmd := exec.CommandContext(ctx, sudo, append([]string{"-n", "-u", agentUser, "--", self}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.in, s.out, s.err
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exitCode(exit.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("run as user %s: %w", agentUser, err)
	}
	return nil
}
