package targets

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

// Up installs what the host lacks, builds the image when there is none, starts
// the instance and waits until its dashboard serves.
func (a *App) Up(ctx context.Context) error {
	if err := a.Host.InstallMissing(ctx, a.Out); err != nil {
		return err
	}
	state, err := a.start(ctx)
	if err != nil {
		return err
	}
	ports := state.Ports
	a.say("")
	a.say("dashboard  http://localhost:%d/   user %s", ports.Dashboard, a.Settings.VM.Credentials.Username)
	a.say("password   go tool mage vm:password")
	a.say("shell      go tool mage vm:ssh")
	a.say("%s is ready", state.Name)
	return nil
}

// Start starts the instance and waits until it serves. The image must exist or
// is built.
func (a *App) Start(ctx context.Context) error {
	state, err := a.start(ctx)
	if err != nil {
		return err
	}
	a.say("%s is ready", state.Name)
	return nil
}

func (a *App) start(ctx context.Context) (vm.State, error) {
	var none vm.State
	image, err := a.image(ctx)
	if err != nil {
		return none, err
	}
	host, err := a.host(ctx)
	if err != nil {
		return none, err
	}
	cfg := a.Settings.VM
	cfg.Image = image
	resources, err := vm.HostResources()
	if err != nil {
		return none, err
	}
	for _, note := range cfg.Fit(resources, a.Settings.MemoryAsked, a.Settings.CPUsAsked) {
		a.say("  %s", note)
	}
	return host.StartReady(ctx, cfg, a.Settings.StartLimit, a.progress)
}

// progress prints a line for everything learnt while an instance starts.
func (a *App) progress(p vm.Progress) {
	if p.Phase == "" {
		a.say("  %s", p.Note)
		return
	}
	a.say("  %6.1f s  %s", p.Seconds, p.Phase)
}

// Stop stops the instance.
func (a *App) Stop(ctx context.Context) error {
	name := a.Settings.VM.Name
	start := time.Now()
	state, err := a.instances().Stop(ctx, name, vm.StopOptions{Timeout: a.Settings.StopLimit}, a.progress)
	if err != nil {
		return err
	}
	a.say("%s is %s (%.1f s)", name, state.Status, time.Since(start).Seconds())
	return nil
}

// SSH runs a command in the guest, or opens a shell, and returns its exit code.
func (a *App) SSH(ctx context.Context, args []string) (int, error) {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	return a.instances().SSH(ctx, a.Settings.VM.Name, vm.SSHOptions{
		Command: args, Stdin: a.In, Stdout: a.Out, Stderr: a.Err,
	})
}

// Workspaces runs a command of the agent on workspaces in the guest and
// returns its exit code. The agent's program itself becomes the user that may
// speak to the agent.
func (a *App) Workspaces(ctx context.Context, verb string, args []string) (int, error) {
	return a.SSH(ctx, append([]string{"--", guest.AgentProgram, "ws", verb}, args...))
}

// Password prints the dashboard's password, which the guest made on its first
// boot.
func (a *App) Password(ctx context.Context) error {
	var out bytes.Buffer
	code, err := a.instances().SSH(ctx, a.Settings.VM.Name, vm.SSHOptions{
		Command: []string{"sudo", "cat", guest.PasswordFile}, Stdout: &out, Stderr: a.Err,
	})
	if err != nil {
		return err
	}
	if code != 0 {
		return errors.New("the guest has no generated password: its credentials were configured")
	}
	a.say("%s", strings.TrimSpace(out.String()))
	return nil
}

// Logs prints a unit's journal, or the serial log. args: [-f] [-n lines] [unit].
func (a *App) Logs(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("vm:logs", flag.ContinueOnError)
	flags.SetOutput(a.Err)
	follow := flags.Bool("f", false, "keep printing what is added")
	lines := flags.Int("n", 0, "print the last lines only")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return a.instances().Logs(ctx, a.Settings.VM.Name, vm.LogOptions{
		Unit: flags.Arg(0), Follow: *follow, Lines: *lines,
	}, a.Out)
}

// Status prints what is known of the instance. args: [--json].
func (a *App) Status(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("vm:status", flag.ContinueOnError)
	flags.SetOutput(a.Err)
	asJSON := flags.Bool("json", false, "print JSON")
	if err := flags.Parse(args); err != nil {
		return err
	}
	state, err := a.instances().Status(ctx, a.Settings.VM.Name)
	if err != nil && !errors.Is(err, vm.ErrNotFound) { // one that does not exist is stopped
		return err
	}
	if *asJSON {
		out := json.NewEncoder(a.Out)
		out.SetIndent("", "  ")
		return out.Encode(state)
	}
	_, err = io.WriteString(a.Out, state.Table(time.Now()))
	return err
}

// Destroy removes the instance with its data, after asking.
func (a *App) Destroy(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("vm:destroy", flag.ContinueOnError)
	flags.SetOutput(a.Err)
	yes := flags.Bool("yes", a.Settings.AssumeYes, "do not ask")
	if err := flags.Parse(args); err != nil {
		return err
	}
	name := a.Settings.VM.Name
	host := a.instances()
	if _, err := os.Stat(filepath.Join(host.Dir, name)); errors.Is(err, os.ErrNotExist) {
		a.say("%s does not exist: nothing to destroy", name)
		return nil
	}
	if !*yes {
		fmt.Fprintf(a.Out, "This permanently deletes %s and everything on its data disk: all workspaces.\nType the name to go on: ", name)
		answer, err := bufio.NewReader(a.In).ReadString('\n')
		if strings.TrimSpace(answer) != name {
			return errors.Join(errors.New("nothing was deleted: the name was not typed (--yes or ASSUME_YES=1 skips the question)"), ignoreEOF(err))
		}
	}
	if err := host.Destroy(ctx, name); err != nil {
		return err
	}
	a.say("%s is destroyed", name)
	return nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
