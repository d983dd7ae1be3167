// Package cli is the command line of the host program: it gives each verb of
// package host its words, flags, help and exit code. It prints what went wrong
// and owns no state.
//
// Its library is Cobra, because that is what the ecosystem of this field uses (Podman,
// Buildah, kubectl, Docker): nested verbs, help, and completion for bash, zsh and
// fish, with one flag library (pflag) that the settings share.
package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/host"
	"github.com/rockpool/rootvm/vm"
)

// Exit codes. `vm ssh` and `ws` end with the guest's command's own.
const (
	ExitOK          = 0
	ExitFailure     = 1
	ExitUsage       = 2
	ExitNotFound    = 3   // no such instance, or no image
	ExitNotRunning  = 4   // the instance is off
	ExitInterrupted = 130 // by the user, as a shell has it
)

// Run runs the command line args of a program and returns its exit code. What
// went wrong is printed on around.Err.
func Run(ctx context.Context, args []string, program host.Program, around host.Surroundings) int {
	c := &command{app: host.NewApp(program, around), around: around}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(around.In)
	root.SetOut(around.Out)
	root.SetErr(around.Err)

	err := root.ExecuteContext(ctx)
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code) // whoever ended with it has said why
	}
	if err != nil {
		fmt.Fprintf(around.Err, "%s: %v\n", c.called(root), err)
	}
	return codeOf(ctx, err)
}

// exitCode is an error that says nothing but the code to end with.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// ended is the error for a code with which something else ended.
func ended(code int, err error) error {
	if err != nil || code == 0 {
		return err
	}
	return exitCode(code)
}

// usageError is a command line that is not understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func codeOf(ctx context.Context, err error) int {
	_, usage := errors.AsType[usageError](err)
	switch {
	case err == nil:
		return ExitOK
	case usage:
		return ExitUsage
	case ctx.Err() != nil:
		return ExitInterrupted
	case errors.Is(err, vm.ErrNotFound), errors.Is(err, host.ErrNoImage):
		return ExitNotFound
	case errors.Is(err, vm.ErrNotRunning):
		return ExitNotRunning
	}
	return ExitFailure
}

// command builds the tree of commands.
type command struct {
	app    *host.App
	around host.Surroundings
}

const rootHelp = `Runs the Rockpool Root VM on this host.

Each setting is a flag or an environment variable, named behind the flag; flags
win. Exit codes: 0 success, 1 failure, 2 wrong usage, 3 no such instance or no
image, 4 the instance is off, 130 interrupted; "vm ssh" and "ws" end with the
code of the command in the guest.`

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use:           host.Name,
		Short:         "Run the Rockpool Root VM on this host",
		Long:          rootHelp,
		Version:       builders.Version + "-" + builders.Prerelease,
		SilenceErrors: true,
		SilenceUsage:  true,
		// So that --name is understood before the verb, also where the verb
		// passes its own flags on.
		TraverseChildren: true,
		Args:             c.noArguments,
		RunE:             func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}

	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return c.misused(cmd, err)
	})

	c.app.List(host.EveryVerb).Bind(root.PersistentFlags())
	root.AddCommand(c.up(), c.down(), c.vm(), c.dev(), c.workspaces(), c.doctor(), c.setup(), c.verify(), c.supervise())
	return root
}

// called is how the user calls a command: by this program's name, or as a target
// of mage.
func (c *command) called(cmd *cobra.Command) string {
	words := strings.Fields(cmd.CommandPath())
	return strings.TrimSpace(c.app.Program.Command("", words[1:]...))
}

// misused is the error for a command line that a command does not understand.
func (c *command) misused(cmd *cobra.Command, err error) error {
	return usageError{fmt.Errorf("%w: see `%s --help`", err, c.called(cmd))}
}

// noArguments and atMost are cobra's checks with an error of usage.
func (c *command) noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	message := fmt.Sprintf("%s does not know %q", c.called(cmd), args[0])
	cmd.SuggestionsMinimumDistance = 2 // of Levenshtein, as cobra's own default
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		message += fmt.Sprintf("; is %q meant?", near[0])
	}
	return c.misused(cmd, errors.New(message))
}

func (c *command) atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= n {
			return nil
		}
		return c.noArguments(cmd, args[n:])
	}
}

// verb makes a command that loads the settings of its groups before it runs.
func (c *command) verb(cmd cobra.Command, run func(ctx context.Context, args []string) error, groups ...host.Group) *cobra.Command {
	for _, g := range groups {
		c.app.List(g).Bind(cmd.Flags())
	}
	if cmd.Args == nil {
		cmd.Args = c.noArguments
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		given := func(flag string) bool { return cmd.Flags().Changed(flag) || cmd.Root().PersistentFlags().Changed(flag) }
		if err := c.app.Load(c.around, given, groups...); err != nil {
			return usageError{err}
		}
		return run(cmd.Context(), args)
	}
	return &cmd
}

// group is a command that only holds others.
func (c *command) group(name, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: name, Short: short, Args: c.noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(verbs...)
	return cmd
}

func (c *command) up() *cobra.Command {
	var asJSON bool
	cmd := c.verb(cobra.Command{
		Use:   "up",
		Short: "Start everything and wait until the dashboard serves",
		Long:  "Installs the host packages that are missing (it names them), starts the VM and waits until its dashboard serves.\nAn image is given once, by --image; later starts know it.",
	}, func(ctx context.Context, _ []string) error { return c.started(ctx, asJSON, (*host.App).Up) }, host.Starting)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the instance's state as JSON; how it goes is on stderr")
	return cmd
}

// started runs a verb that starts the instance, and prints the state it
// reached for a script.
func (c *command) started(ctx context.Context, asJSON bool, start func(*host.App, context.Context) (vm.State, error)) error {
	if !asJSON {
		_, err := start(c.app, ctx)
		return err
	}
	c.app.Out = c.around.Err
	state, err := start(c.app, ctx)
	if err != nil {
		return err
	}
	return host.WriteJSON(c.around.Out, state)
}

func (c *command) down() *cobra.Command {
	return c.verb(cobra.Command{Use: "down", Short: "Stop everything cleanly"},
		func(ctx context.Context, _ []string) error { return c.app.Stop(ctx) }, host.Stopping)
}

func (c *command) vm() *cobra.Command {
	return c.group("vm", "The VM itself", c.vmStart(), c.vmStop(), c.vmSSH(), c.vmLogs(), c.vmStatus(), c.vmPassword(), c.vmAutostart(), c.vmDestroy())
}

func (c *command) vmStart() *cobra.Command {
	var asJSON bool
	cmd := c.verb(cobra.Command{Use: "start", Short: "As up, without installing host packages"},
		func(ctx context.Context, _ []string) error { return c.started(ctx, asJSON, (*host.App).Start) }, host.Starting)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the instance's state as JSON; how it goes is on stderr")
	return cmd
}

func (c *command) vmStop() *cobra.Command {
	return c.verb(cobra.Command{Use: "stop", Short: "As down"},
		func(ctx context.Context, _ []string) error { return c.app.Stop(ctx) }, host.Stopping)
}

func (c *command) vmSSH() *cobra.Command {
	cmd := c.verb(cobra.Command{
		Use:   "ssh [flags] [--] [command]...",
		Short: "Open a shell in the VM as admin, or run a command there",
		Long:  "Opens a shell in the VM as admin, or runs a command there and ends with its exit code.\nOne word is a line for the guest's shell; several are passed on exactly.",
		Args:  cobra.ArbitraryArgs,
	}, func(ctx context.Context, args []string) error { return ended(c.app.SSH(ctx, args)) })
	cmd.Flags().SetInterspersed(false) // the command's flags are its own
	return cmd
}

func (c *command) vmLogs() *cobra.Command {
	var o vm.LogOptions
	cmd := c.verb(cobra.Command{
		Use:   "logs [unit]",
		Short: "Print a unit's journal; without a unit, the serial console",
		Args:  c.atMost(1),
	}, func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			o.Unit = args[0]
		}
		return c.app.Logs(ctx, o)
	})
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "keep printing what is added")
	cmd.Flags().IntVarP(&o.Lines, "lines", "n", 0, "print the last lines only")
	return cmd
}

func (c *command) vmStatus() *cobra.Command {
	var asJSON bool
	cmd := c.verb(cobra.Command{Use: "status", Short: "Print the instance's state, ports and the time of every boot phase"},
		func(ctx context.Context, _ []string) error { return c.app.Status(ctx, asJSON) })
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c *command) vmPassword() *cobra.Command {
	return c.verb(cobra.Command{Use: "password", Short: "Print the dashboard's password, made on the first boot"},
		func(ctx context.Context, _ []string) error { return c.app.Password(ctx) })
}

func (c *command) vmAutostart() *cobra.Command {
	words := []string{"on", "off"}
	return c.verb(cobra.Command{
		Use:       "autostart on|off",
		Short:     "Start the instance with this host and stop it cleanly with it, or end that",
		Long:      "Starts the instance when this host boots, as it was started the last time, and stops it cleanly when\nthe host shuts down, by a service of the user's (systemd on Linux, launchd on macOS).",
		ValidArgs: words,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(words, args[0]) {
				return usageError{fmt.Errorf("usage: %s", cmd.UseLine())}
			}
			return nil
		},
	}, func(ctx context.Context, args []string) error { return c.app.Autostart(ctx, c.around, args[0] == "on") }, host.Emulating)
}

func (c *command) vmDestroy() *cobra.Command {
	return c.verb(cobra.Command{Use: "destroy", Short: "Delete the VM and its data, after asking"},
		func(ctx context.Context, _ []string) error {
			if err := c.app.Destroy(ctx); err != nil {
				return err
			}
			return c.app.DestroyAutostart(ctx, c.around)
		}, host.Asking)
}

func (c *command) doctor() *cobra.Command {
	var asJSON bool
	cmd := c.verb(cobra.Command{Use: "doctor", Short: "Say what this host can and cannot do"},
		func(ctx context.Context, _ []string) error { return c.app.Doctor(ctx, asJSON) }, host.Starting)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a list of {name, ok, detail}")
	return cmd
}

func (c *command) setup() *cobra.Command {
	return c.verb(cobra.Command{Use: "setup", Short: "Install the host packages that are missing, and nothing else"},
		func(ctx context.Context, _ []string) error { return c.app.Setup(ctx) })
}

func (c *command) verify() *cobra.Command {
	var key string
	cmd := c.verb(cobra.Command{
		Use:   "verify FILE",
		Short: "Check a file or directory of a release against its signature",
		Long: "Checks a file of a release, or a directory such as a Tart VM or the whole release, offline: SHA256SUMS has to be signed by a key that is known, and to name the file's content.\n" +
			"The key is the one that this program was released with, or that of --key.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return c.misused(cmd, errors.New("wants one file or directory of a release"))
			}
			return nil
		},
	}, func(ctx context.Context, args []string) error { return c.app.Verify(ctx, args[0], key) })
	cmd.Flags().StringVar(&key, "key", "", "file with the public keys that may have signed, such as release.pub")
	return cmd
}

// supervise is what the program runs itself again as; people do not.
func (c *command) supervise() *cobra.Command {
	verbs := []string{"launch", "attach"}

	return &cobra.Command{
		Use:    host.SuperviseVerb + " launch|attach DIR",
		Short:  "Watch over the machine of the instance in DIR: launch it, or attach to it",
		Hidden: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 || !slices.Contains(verbs, args[0]) {
				return usageError{fmt.Errorf("usage: %s", cmd.UseLine())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			// Signals are the supervisor's own matter: it stops the machine on them.
			return vm.Supervise(context.WithoutCancel(cmd.Context()), args[1], vm.SuperviseOptions{
				Drivers: host.Drivers(),
				Launch:  args[0] == "launch",
				Ready:   c.around.Out,
				Log:     slog.New(slog.NewTextHandler(c.around.Err, nil)),
			})
		},
	}
}

// workspaceVerbs are the commands on workspaces, which the agent in the guest
// carries out: their flags are its own, and it has their help.
var workspaceVerbs = []struct{ use, short string }{
	{"list [--json]", "List the workspaces"},
	{"create NAME [--repository R] [--image I] [--token-stdin] [--no-wait] [--json]", "Create a workspace"},
	{"start NAME [--no-wait] [--json]", "Start a workspace"},
	{"stop NAME [--no-wait] [--json]", "Stop a workspace"},
	{"rm NAME [--no-wait]", "Delete a workspace with its files"},
	{"logs NAME [-f] [-n lines] [--steps]", "Print what a workspace's processes wrote"},
	{"open NAME", "Print the address of a workspace's IDE"},
}

func (c *command) workspaces() *cobra.Command {
	var verbs []*cobra.Command
	for _, v := range workspaceVerbs {
		name, _, _ := strings.Cut(v.use, " ")
		cmd := c.verb(cobra.Command{
			Use: v.use, Short: v.short, Args: cobra.ArbitraryArgs,
			DisableFlagParsing: true, DisableFlagsInUseLine: true,
		}, func(ctx context.Context, args []string) error { return ended(c.app.Workspaces(ctx, name, args)) })
		run := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if slices.ContainsFunc(args, func(s string) bool { return s == "-h" || s == "--help" }) {
				return cmd.Help()
			}
			args, err := takeFlags(cmd.Root().PersistentFlags(), args)
			if err != nil {
				return c.misused(cmd, err)
			}
			return run(cmd, args)
		}
		verbs = append(verbs, cmd)
	}
	return c.group("ws", "Workspaces in the VM", verbs...)
}

// takeFlags sets the flags that are in args, up to a "--", and returns the rest,
// which is another program's. The flags all take a value.
func takeFlags(flags *pflag.FlagSet, args []string) (rest []string, err error) {
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			return append(rest, args[i:]...), nil
		}
		name, value, given := strings.Cut(args[i], "=")
		flag := flags.Lookup(strings.TrimPrefix(name, "--"))
		if flag == nil || !strings.HasPrefix(name, "--") {
			rest = append(rest, args[i])
			continue
		}

		if !given {
			if i++; i == len(args) {
				return nil, fmt.Errorf("flag needs an argument: %s", name)
			}
			value = args[i]
		}
		if err := flags.Set(flag.Name, value); err != nil {
			return nil, err
		}
	}
	return rest, nil
}
