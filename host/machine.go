package host

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

// Setup installs the host packages that are missing.
func (a *App) Setup(ctx context.Context) error {
	if err := a.Packages.InstallMissing(ctx, a.Out); err != nil {
		return err
	}
	a.printLine("all host packages are there")
	return nil
}

// Up installs what the host lacks, starts the instance and waits until its
// dashboard serves. It ends with what to do next.
func (a *App) Up(ctx context.Context) (vm.State, error) {
	if err := a.Packages.InstallMissing(ctx, a.Out); err != nil {
		return vm.State{}, err
	}
	state, err := a.start(ctx)
	if err != nil {
		return state, err
	}
	a.printLine("")
	a.printLine("dashboard  http://%s:%d/   user %s", a.loopbackName(ctx, state.Ports), state.Ports.Dashboard, guest.DefaultUsername)
	a.printLine("password   %s", a.command("vm", "password"))
	a.printLine("shell      %s", a.command("vm", "ssh"))
	a.printLine("%s is ready", state.Name)
	return state, nil
}

// loopbackName is how a browser on this host reaches the instance. The ports
// are forwarded on 127.0.0.1, and a browser asks [::1] first when it is given
// "localhost": a program that listens there would be asked for the password.
func (a *App) loopbackName(ctx context.Context, ports guest.Ports) string {
	name := "localhost"
	for _, f := range ports.Forwards() {
		if f.Name == "ssh" {
			continue
		}
		dialer := net.Dialer{Timeout: time.Second}
		conn, err := dialer.DialContext(ctx, "tcp6", net.JoinHostPort("::1", strconv.Itoa(f.Host)))
		if err != nil {
			continue
		}
		conn.Close()
		a.printLine("  another program listens on [::1]:%d, which is what browsers take \"localhost\" for: never type the password there, use 127.0.0.1 or stop that program", f.Host)
		name = "127.0.0.1"
	}
	return name
}

// Start starts the instance and waits until it serves.
func (a *App) Start(ctx context.Context) (vm.State, error) {
	state, err := a.start(ctx)
	if err != nil {
		return state, err
	}
	a.printLine("%s is ready", state.Name)
	return state, nil
}

func (a *App) start(ctx context.Context) (vm.State, error) {
	state, err := a.instances().Status(ctx, a.Settings.VM.Name)
	if err == nil && state.Serving() {
		return a.alreadyOn(ctx, state)
	}
	launcher, config, err := a.Prepare(ctx)
	if err != nil {
		return vm.State{}, err
	}
	return launcher.StartReady(ctx, config, a.Settings.StartLimit, a.progress)
}

// alreadyOn waits until an instance that runs serves. What was asked for and
// cannot be applied to it is said, and is a failure where the user would take it
// for done.
func (a *App) alreadyOn(ctx context.Context, state vm.State) (vm.State, error) {
	a.printLine("  %s is already running", state.Name)
	inst, err := a.instances().Instance(state.Name)
	if err != nil {
		return state, err
	}
	later := fmt.Sprintf("`%s`, then start it with the same settings", a.command("down"))
	refused, ignored, err := a.unapplied(ctx, inst.Config)
	switch {
	case err != nil:
		return state, err
	case len(refused) > 0:
		return state, fmt.Errorf("%s runs, and %s can only be changed while it is off: %s", state.Name, strings.Join(refused, " and "), later)
	case len(ignored) > 0:
		a.printLine("  %s stay as they are while it runs: %s", strings.Join(ignored, ", "), later)
	}
	if state.Status == vm.Ready {
		return state, nil
	}
	return a.instances().WaitReady(ctx, state.Name, a.Settings.StartLimit, a.progress)
}

// unapplied lists what the user set and an instance that runs does not have: what
// must not be passed over, and what may.
func (a *App) unapplied(ctx context.Context, now vm.Config) (refused, ignored []string, err error) {
	asked := a.Settings.VM
	if asked.Share == vm.ShareNone && now.ShareDir != "" {
		refused = append(refused, "the sharing of "+now.ShareDir)
	} else if asked.Share != vm.ShareNone && asked.ShareDir != "" && asked.ShareDir != now.ShareDir {
		refused = append(refused, "the directory that it shares")
	}

	if a.Settings.Image != "" {
		given, err := a.given(ctx)
		if err != nil {
			return nil, nil, err
		}
		if !given.sameImage(now.Image) {
			refused = append(refused, "its image")
		}
	}

	for _, setting := range []struct {
		name    string
		differs bool
	}{
		{"memory", asked.Memory != 0 && asked.Memory != now.Memory},
		{"cpus", asked.CPUs != 0 && asked.CPUs != now.CPUs},
		{"data disk", asked.DataSize != 0 && asked.DataSize != now.DataSize},
		{"root disk", asked.DiskSize != 0 && asked.DiskSize != now.DiskSize},
		{"ports", a.Settings.portsChosen && asked.Ports != now.Ports},
	} {
		if setting.differs {
			ignored = append(ignored, setting.name)
		}
	}
	return refused, ignored, nil
}

// Prepare returns what a start needs: the launcher with the driver of this
// host, and the instance with its image, fitted to what the host has.
func (a *App) Prepare(ctx context.Context) (vm.Host, vm.Config, error) {
	config := a.Settings.VM
	before, err := a.instances().Instance(config.Name)
	switch {
	case errors.Is(err, vm.ErrDamaged):
		a.printLine("  %v; nothing is shared from now on, and its data is as it was", err)
		before.Config = vm.Config{}
	case err != nil && !errors.Is(err, vm.ErrNotFound):
		return vm.Host{}, config, err
	}
	if config.Checkout, err = a.checkoutOf(before.Config); err != nil {
		return vm.Host{}, config, err
	}
	a.chooseShare(&config, before.Config)
	if config.Image, config.Architecture, err = a.image(ctx); err != nil {
		return vm.Host{}, config, err
	}
	config.FillDefaults()
	launcher, err := a.launcher(ctx, config)
	if err != nil {
		return launcher, config, err
	}

	resources, err := vm.HostResources()
	if err != nil {
		return launcher, config, err
	}
	asked := a.Settings.VM
	for _, note := range config.Fit(resources, asked.Memory != 0, asked.CPUs != 0) {
		a.printLine("  %s", note)
	}
	return launcher, config, nil
}

// checkoutOf is the checkout that the instance belongs to from now on; none for
// one whose images are given by directory. Another's image would be put in place
// of its own, and bring the database on its data disk to a format that the first
// one may not know.
func (a *App) checkoutOf(before vm.Config) (string, error) {
	own := a.Program.Checkout
	if a.Settings.TakeOver || before.Image.Disk == "" {
		return own, nil
	}
	const cure = "give this one an instance of its own (ROOT_VM_NAME, and with it ROOT_VM_SSH_PORT and ROOT_VM_WEB_PORT), or let this one have it with its data (TAKE_OVER=1)"
	given := filepath.Dir(filepath.Dir(before.Image.Disk)) == a.imagesDir()
	switch {
	case own == "" && before.Checkout != "" && a.Settings.Image != "":
		return "", fmt.Errorf("%s belongs to the checkout %s: %s", before.Name, before.Checkout, cure)
	case own == "":
		return before.Checkout, nil
	case given:
		return "", fmt.Errorf("%s runs an image that was given by directory: %s", before.Name, cure)
	case before.Checkout == "" || sameDirectory(own, before.Checkout):
		return own, nil
	}
	if _, err := os.Stat(before.Checkout); errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s belongs to the checkout %s, which is not there any more: %s", before.Name, before.Checkout, cure)
	}
	return "", fmt.Errorf("%s belongs to the checkout %s: %s", before.Name, before.Checkout, cure)
}

// sameDirectory reports whether two paths lead to one directory.
func sameDirectory(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return a == b || errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// chooseShare decides which directory the guest sees: the one that was given,
// else the one that was given before, else none. What is shared the guest can
// write, so by default that is nothing that this host executes.
func (a *App) chooseShare(config *vm.Config, before vm.Config) {
	switch {
	case config.Share == vm.ShareNone:
		config.ShareDir = ""
	case config.ShareDir != "":
		config.ShareChosen = true
	case before.ShareChosen:
		config.ShareDir, config.ShareChosen = before.ShareDir, true
	}
	if config.ShareDir != "" {
		a.printLine("  sharing %s with the VM, read-write: whoever controls the VM can change what you run from it on this host, such as .git/hooks and package.json (SHARE=none ends it)", config.ShareDir)
	}
}

// progress prints a line for everything learnt while an instance starts.
func (a *App) progress(p vm.Progress) {
	if p.Phase == "" {
		a.printLine("  %s", p.Note)
		return
	}
	a.printLine("  %6.1f s  %s", p.Seconds, p.Phase)
}

// Stop stops the instance.
func (a *App) Stop(ctx context.Context) error {
	name := a.Settings.VM.Name
	start := time.Now()
	state, err := a.instances().Stop(ctx, name, vm.StopOptions{Timeout: a.Settings.StopLimit}, a.progress)
	if err != nil {
		return err
	}
	a.printLine("%s is %s (%.1f s)", name, state.Status, time.Since(start).Seconds())
	return nil
}

// SSH runs a command in the guest, or opens a shell, and returns its exit code.
// The command has a terminal when both ends of this one are a terminal.
func (a *App) SSH(ctx context.Context, command []string) (int, error) {
	return a.instances().SSH(ctx, a.Settings.VM.Name, vm.SSHOptions{
		TTY:     isTerminal(a.In) && isTerminal(a.Out),
		Command: command, Stdin: a.In, Stdout: a.Out, Stderr: a.Err,
	})
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Workspaces runs a command of the agent on workspaces in the guest and
// returns its exit code. The agent's program itself becomes the user that may
// speak to the agent.
func (a *App) Workspaces(ctx context.Context, verb string, args []string) (int, error) {
	return a.SSH(ctx, append([]string{guest.AgentProgram, "ws", verb}, args...))
}

// Password prints the dashboard's password, which the guest made on its first
// boot.
func (a *App) Password(ctx context.Context) error {
	var out bytes.Buffer
	code, err := a.instances().SSH(ctx, a.Settings.VM.Name, vm.SSHOptions{
		Command: []string{fmt.Sprintf("sudo sh -c 'test -e %s || exit %d; cat %[1]s'", guest.PasswordFile, noPasswordFile)}, Stdout: &out, Stderr: a.Err,
	})
	if err != nil {
		return err
	}
	if err := passwordFault(code); err != nil {
		return err
	}
	a.printLine("%s", strings.TrimSpace(out.String()))
	return nil
}

// Exit codes of the command that reads the password.
const (
	noPasswordFile = 44  // our own
	sshFault       = 255 // ssh(1): it could not run the command, and has said why
)

func passwordFault(code int) error {
	switch code {
	case 0:
		return nil
	case noPasswordFile:
		return errors.New("the guest has no generated password: its credentials were configured")
	case sshFault:
		return errors.New("the password could not be asked for: ssh into the VM failed")
	}
	return fmt.Errorf("the guest could not read its password file %s (exit code %d)", guest.PasswordFile, code)
}

// Logs prints a unit's journal, or the serial log without a unit.
func (a *App) Logs(ctx context.Context, o vm.LogOptions) error {
	return a.instances().Logs(ctx, a.Settings.VM.Name, o, a.Out)
}

// Status prints what is known of the instance. One that does not exist is
// stopped.
func (a *App) Status(ctx context.Context, asJSON bool) error {
	state, err := a.instances().Status(ctx, a.Settings.VM.Name)
	if err != nil && !errors.Is(err, vm.ErrNotFound) {
		return err
	}
	if asJSON {
		return WriteJSON(a.Out, state)
	}
	_, err = io.WriteString(a.Out, state.Table(time.Now()))
	return err
}

// WriteJSON prints v for a script.
func WriteJSON(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

// Destroy removes the instance with its data, after asking.
func (a *App) Destroy(ctx context.Context) error {
	name := a.Settings.VM.Name
	instances := a.instances()
	if _, err := os.Stat(filepath.Join(instances.Dir, name)); errors.Is(err, os.ErrNotExist) {
		a.printLine("%s does not exist: nothing to destroy", name)
		return nil
	}

	if !a.Settings.AssumeYes {
		fmt.Fprintf(a.Out, "This permanently deletes %s and everything on its data disk: all workspaces.\nType the name to go on: ", name)
		answer, err := bufio.NewReader(a.In).ReadString('\n')
		if strings.TrimSpace(answer) != name {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(errors.New("nothing was deleted: the name was not typed (--yes or ASSUME_YES=1 skips the question)"), err)
		}
	}

	if err := instances.Destroy(ctx, name); err != nil {
		return err
	}
	a.printLine("%s is destroyed", name)
	return nil
}
