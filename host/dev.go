package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

// ErrNothingShared says that the VM does not see the project.
var ErrNothingShared = errors.New("the VM sees no directory of this host")

// DevOptions say what [App.DevStart] runs.
type DevOptions struct {
	Ecosystem guest.Ecosystem
	Ports     []string // as [ParseForwards] reads them
}

// DevStart has the VM run the processes that a PM2 file of the shared project
// describes, and forwards their ports. It starts the VM if it is off.
func (a *App) DevStart(ctx context.Context, o DevOptions) error {
	forwards, err := ParseForwards(o.Ports)
	if err != nil {
		return err
	}
	state, err := a.start(ctx)
	if err != nil {
		return err
	}
	inst, err := a.instances().Instance(state.Name)
	if err != nil {
		return err
	}
	if inst.Config.ShareDir == "" {
		return fmt.Errorf("%w: stop it with `%s`, then name the project's by ROCKPOOL_PROJECT=DIR", ErrNothingShared, a.command("down"))
	}
	for _, name := range []*string{&o.Ecosystem.File, &o.Ecosystem.EnvFile} {
		if *name, err = inProject(*name, inst.Config.ShareDir); err != nil {
			return err
		}
	}

	before := state.EcosystemPorts
	if err := a.instances().ForwardEcosystem(ctx, state.Name, forwards); err != nil {
		return err
	}
	if err := a.dev(ctx, a.Out, devStartArgs(o.Ecosystem)...); err != nil {
		return errors.Join(err, a.instances().ForwardEcosystem(context.WithoutCancel(ctx), state.Name, before))
	}
	return a.DevStatus(ctx, false)
}

// inProject makes a file's name relative to the shared project, which an
// absolute path may lead into.
func inProject(name, project string) (string, error) {
	if !filepath.IsAbs(name) {
		return name, nil
	}
	inside, err := filepath.Rel(project, name)
	if err != nil || !filepath.IsLocal(inside) {
		return "", fmt.Errorf("%s is not in the shared project, %s", name, project)
	}
	return filepath.ToSlash(inside), nil
}

func devStartArgs(e guest.Ecosystem) []string {
	args := []string{"start"}
	for _, flag := range []struct{ name, value string }{{"ecosystem", e.File}, {"env-file", e.EnvFile}} {
		if flag.value != "" {
			args = append(args, "--"+flag.name+"="+flag.value)
		}
	}
	if e.TakePorts {
		args = append(args, "--take-ports")
	}
	if e.Restore {
		args = append(args, "--restore")
	}
	return args
}

// DevStop ends the processes and the forwarding of their ports. It succeeds when
// nothing runs.
func (a *App) DevStop(ctx context.Context) error {
	state, on, err := a.devState(ctx)
	if err != nil {
		return err
	}
	if !on {
		a.printLine("nothing runs: %s is %s", state.Name, state.Status)
		return nil
	}
	if err := a.dev(ctx, a.Out, "stop"); err != nil {
		return err
	}
	if err := a.instances().ForwardEcosystem(ctx, state.Name, nil); err != nil {
		return err
	}
	a.printLine("the project's processes are stopped")
	return nil
}

// DevLogs prints what the processes wrote, or one of them.
func (a *App) DevLogs(ctx context.Context, process string, o vm.LogOptions) error {
	args := []string{"logs", "--lines=" + strconv.Itoa(o.Lines)}
	var stdin io.Reader
	if o.Follow {
		// Its end is that of this process, also when that is killed.
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer r.Close()
		defer w.Close()
		stdin = r
		args = append(args, "--follow", "--attached")
	}
	if isTerminal(a.Out) && os.Getenv("NO_COLOR") == "" {
		args = append(args, "--color")
	}
	if process != "" {
		args = append(args, "--", process)
	}
	err := a.devWith(ctx, stdin, a.Out, args...)
	if o.Follow && ctx.Err() != nil { // the user has seen enough
		return nil
	}
	return err
}

// DevReport is what `dev status --json` prints.
type DevReport struct {
	guest.EcosystemStatus
	Ports []guest.Forward `json:"ports"`
}

// DevStatus prints what runs.
func (a *App) DevStatus(ctx context.Context, asJSON bool) error {
	state, on, err := a.devState(ctx)
	if err != nil {
		return err
	}
	report := DevReport{EcosystemStatus: guest.EcosystemStatus{Status: "inactive", Processes: []guest.EcosystemProcess{}}, Ports: []guest.Forward{}}
	if on {
		var out bytes.Buffer
		if err := a.dev(ctx, &out, "status"); err != nil {
			return err
		}
		if err := json.Unmarshal(out.Bytes(), &report.EcosystemStatus); err != nil {
			return fmt.Errorf("the VM's answer is not understood: %w", err)
		}
		report.Ports = append(report.Ports, state.EcosystemPorts...)
	}

	if asJSON {
		return WriteJSON(a.Out, report)
	}
	_, err = io.WriteString(a.Out, report.Table(time.Now()))
	return err
}

// Table is the report for people.
func (r DevReport) Table(now time.Time) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	switch {
	case len(r.Processes) > 0:
		fmt.Fprintln(w, "PROCESS\tSTATE\tRESTARTS\tSINCE\tCPU\tMEMORY")
	case r.Running():
		fmt.Fprintln(w, "PM2 runs without a process")
	default:
		fmt.Fprintf(w, "nothing runs (%s)\n", r.Status)
	}
	for _, p := range r.Processes {
		since, cpu, memory := "-", "-", "-"
		if p.PID > 0 {
			since, cpu, memory = now.Sub(time.UnixMilli(p.Since)).Round(time.Second).String(), fmt.Sprintf("%.0f %%", p.CPU), vm.Bytes(p.Memory)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\n", printable(p.Name), printable(p.Status), p.Restarts, since, cpu, memory)
	}
	w.Flush()

	for _, f := range r.Ports {
		fmt.Fprintf(&b, "http://127.0.0.1:%d  %s, port %d in the VM\n", f.Host, f.Name, f.Guest)
	}
	return b.String()
}

// printable is a text of the guest's without what a terminal would obey.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// devState is the instance's, and whether it can be asked.
func (a *App) devState(ctx context.Context) (state vm.State, on bool, err error) {
	state, err = a.instances().Status(ctx, a.Settings.VM.Name)
	if errors.Is(err, vm.ErrNotFound) {
		return state, false, nil
	}
	return state, state.Serving(), err
}

// dev runs a command of the agent's in the guest, which has said by itself what
// is wrong when it ends with another code than 0.
func (a *App) dev(ctx context.Context, out io.Writer, args ...string) error {
	return a.devWith(ctx, nil, out, args...)
}

func (a *App) devWith(ctx context.Context, in io.Reader, out io.Writer, args ...string) error {
	command := slices.Concat([]string{guest.AgentProgram, "dev"}, args)
	code, err := a.instances().SSH(ctx, a.Settings.VM.Name, vm.SSHOptions{Command: command, Stdin: in, Stdout: out, Stderr: a.Err})
	if err == nil && code != 0 {
		err = fmt.Errorf("dev %s failed in the VM (exit code %d)", args[0], code)
	}
	return err
}

// maxRange bounds a range of ports.
const maxRange = 100

// ParseForwards reads ports to forward: PORT, HOST:GUEST or FIRST-LAST, with a
// name and an equals sign before it if wanted.
func ParseForwards(words []string) ([]guest.Forward, error) {
	var list []guest.Forward
	for _, word := range words {
		name, ports, named := strings.Cut(word, "=")
		if !named {
			name, ports = "dev", word
		}
		forwards, err := parseForward(ports)
		if err != nil || name == "" {
			return nil, fmt.Errorf("port %q: use [NAME=]PORT, [NAME=]HOST:GUEST or FIRST-LAST, from 1 to 65535", word)
		}
		for _, f := range forwards {
			f.Name = name
			if slices.ContainsFunc(list, func(other guest.Forward) bool { return other.Host == f.Host }) {
				return nil, fmt.Errorf("port %d of this host is given twice", f.Host)
			}
			list = append(list, f)
		}
	}
	return list, nil
}

func parseForward(ports string) ([]guest.Forward, error) {
	if first, last, ok := strings.Cut(ports, "-"); ok {
		from, err := parsePort(first)
		to, lastErr := parsePort(last)
		if err := errors.Join(err, lastErr); err != nil || to < from || to-from >= maxRange {
			return nil, fmt.Errorf("no range: %w", err)
		}
		var list []guest.Forward
		for port := from; port <= to; port++ {
			list = append(list, guest.Forward{Host: port, Guest: port})
		}
		return list, nil
	}

	host, inside, ok := strings.Cut(ports, ":")
	if !ok {
		inside = host
	}
	outer, err := parsePort(host)
	inner, insideErr := parsePort(inside)
	return []guest.Forward{{Host: outer, Guest: inner}}, errors.Join(err, insideErr)
}

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && n == 0 {
		err = errors.New("port 0")
	}
	return int(n), err
}
