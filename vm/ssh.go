package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// SSHArgs is the argument list of ssh(1) for an instance, without the program.
// Host keys are accepted on first sight and kept with the instance; the user's
// own configuration and agent are left out of it.
func SSHArgs(inst Instance, command []string) []string {
	args := []string{
		"-F", "none",
		"-i", escapePercent(inst.Path(keyFile)),
		"-o", "IdentitiesOnly=yes",
		"-o", "IdentityAgent=none",
		"-o", "UserKnownHostsFile=" + quoteOption(escapePercent(inst.Path(knownHostsFile))),
		"-o", "GlobalKnownHostsFile=none",
		"-o", "StrictHostKeyChecking=accept-new",
		"-o", "HostKeyAlias=" + inst.Config.Name,
		"-o", "PreferredAuthentications=publickey",
		"-o", "ConnectTimeout=20",
		"-o", "ServerAliveInterval=15",
		"-o", "LogLevel=ERROR",
		"-p", strconv.Itoa(inst.Config.Ports.SSH),
		guest.AdminUser + "@127.0.0.1",
	}
	if len(command) == 0 {
		return args
	}
	return append(args, "--", remoteLine(command))
}

// escapePercent keeps ssh from taking a percent sign in a path for one of its
// tokens (ssh_config(5), TOKENS).
func escapePercent(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// quoteOption keeps a path with spaces one value of an ssh option.
func quoteOption(s string) string { return `"` + s + `"` }

// remoteLine is what the guest's shell reads: one word is a line of shell,
// several are quoted so that the command gets exactly them.
func remoteLine(command []string) string {
	if len(command) == 1 {
		return command[0]
	}
	quoted := make([]string, len(command))
	for i, word := range command {
		quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

// SSH runs the host's ssh client as user admin and returns the command's exit
// code. It waits for a guest that is still starting.
func (h Host) SSH(ctx context.Context, name string, opts SSHOptions) (int, error) {
	inst, err := h.reachable(ctx, name)
	if err != nil {
		return -1, err
	}
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		return -1, errors.New("the program ssh is missing: install the package openssh-client")
	}

	args := SSHArgs(inst, opts.Command)
	if opts.TTY {
		args = append([]string{"-t"}, args...)
	}
	cmd := exec.CommandContext(ctx, ssh, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = opts.Stdin, opts.Stdout, opts.Stderr

	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return -1, ctx.Err()
	case errors.As(err, &exit):
		return exit.ExitCode(), nil
	case err != nil:
		return -1, fmt.Errorf("run ssh: %w", err)
	}
	return 0, nil
}

// sshPatience is how long SSH and Logs wait for a guest that is starting.
const sshPatience = 2 * time.Minute

// reachable waits until the guest's SSH server is up.
func (h Host) reachable(ctx context.Context, name string) (Instance, error) {
	dir, err := h.dir(name)
	if err != nil {
		return Instance{}, err
	}
	inst, err := h.load(dir)
	if err != nil {
		return inst, err
	}
	if inst.Config.Ports.SSH == 0 {
		return inst, fmt.Errorf("%s has no SSH port", name)
	}

	ctx, cancel := context.WithTimeout(ctx, sshPatience)
	defer cancel()
	state, err := h.follow(ctx, name, nil, func(s State) bool { return s.On() && (s.Status != Starting || s.reached(guest.PhaseSSH)) })
	if errors.Is(err, context.DeadlineExceeded) {
		return inst, nil // the guest may be an old one that does not speak: let ssh try
	}
	if err != nil {
		return inst, err
	}
	if !state.On() {
		return inst, fmt.Errorf("%s is %s: %w: start it with `%s`", name, state.Status, ErrNotRunning, h.command("vm", "start"))
	}
	return inst, nil
}

func (s State) reached(phase guest.Phase) bool {
	for _, p := range s.Phases {
		if p.Name == phase {
			return true
		}
	}
	return false
}

// Logs writes the serial log, or the journal of a unit of the guest, to w.
func (h Host) Logs(ctx context.Context, name string, opts LogOptions, w io.Writer) error {
	if opts.Unit == "" {
		return h.serialLog(ctx, name, opts, w)
	}
	command := []string{"sudo", "journalctl", "--no-pager", "-o", "short-iso", "-n", strconv.Itoa(cmp.Or(opts.Lines, 200)), "-u", opts.Unit}
	if opts.Follow {
		command = append(command, "-f")
	}
	code, err := h.SSH(ctx, name, SSHOptions{Command: command, Stdout: w, Stderr: os.Stderr})
	if err == nil && code != 0 {
		err = fmt.Errorf("logs of %s: journalctl ended with code %d", opts.Unit, code)
	}
	return err
}

func (h Host) serialLog(ctx context.Context, name string, opts LogOptions, w io.Writer) error {
	dir, err := h.dir(name)
	if err != nil {
		return err
	}
	inst, err := h.load(dir)
	if err != nil {
		return err
	}

	path := inst.Path(SerialLog)
	w = cleanWriter{w}
	var offset int64
	if opts.Lines > 0 {
		for _, line := range lastLines(path, opts.Lines) {
			fmt.Fprintln(w, line)
		}
		if info, err := os.Stat(path); err == nil {
			offset = info.Size()
		}
	}

	if opts.Follow {
		return tail(ctx, path, offset, func(b []byte) { w.Write(b) })
	}
	if opts.Lines > 0 {
		return nil
	}

	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("serial log: %w", err)
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
