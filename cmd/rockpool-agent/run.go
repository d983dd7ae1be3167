package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/client"
)

// version is set by the image's build with -X main.version.
var version = "dev"

// The exit codes. Units use exitConfig to tell a fault that a restart does
// not cure (RestartPreventExitStatus=78).
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitUnavailable = 69 // EX_UNAVAILABLE of sysexits(3)
	exitConfig      = 78 // EX_CONFIG
)

// configError is a fault in what the program was given: its flags' values,
// its configuration or its database.
type configError struct{ err error }

func (e configError) Error() string { return e.err.Error() }
func (e configError) Unwrap() error { return e.err }

// streams are the program's three files.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// program is one run of the command line: what its commands have to work with.
type program struct {
	streams
	args []string // as they were given, for another process that does the same
	env  func(string) string
}

// run is the program. Ordinary messages go to stdout and a fault, in one
// line, to stderr, so that a unit can send stderr to the console as well.
func run(ctx context.Context, args []string, in io.Reader, out, err io.Writer, env func(string) string) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	p := &program{streams: streams{in: in, out: out, err: err}, args: args, env: env}
	verb, failed := p.execute(ctx)
	return report(p.streams, verb, failed)
}

// root is the program without a command.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:               "rockpool-agent",
		Short:             "Everything of Rockpool that runs inside the Root VM.",
		Args:              cobra.ArbitraryArgs, // a command that is not there is told by group
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.SetHelpCommand(helpCommand())
	root.AddCommand(
		p.serveCommand(), p.setupCommand(), p.mountShareCommand(), p.consoleCommand(), p.wsCommand(), p.devCommand(), p.doctorCommand(),
		p.backupCommand(), p.restoreCommand(), p.storageCommand(), p.relayCommand(), p.firewallCommand(), p.networksCommand(), p.clockCommand(), p.replayCommand(), p.streamsCommand(), p.versionCommand(),
	)
	return root
}

// helpCommand prints what there is to know of a command.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "say what a command does, and with which flags",
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, words []string) error {
			asked, rest, err := c.Root().Find(words)
			if err != nil || len(rest) > 0 {
				return usageError{fmt.Errorf("unknown command %q: see rockpool-agent help", strings.Join(words, " "))}
			}
			asked.InitDefaultHelpFlag()
			return asked.Help()
		},
	}
}

// execute runs the command that the arguments name, and returns its verb.
func (p *program) execute(ctx context.Context) (verb string, err error) {
	root := p.root()
	root.InitDefaultHelpCmd()
	c, rest, err := root.Find(p.args)
	if err != nil {
		return "", usageError{err}
	}
	path := strings.Fields(c.CommandPath())[1:]
	if len(path) > 0 {
		verb = path[0]
	}
	if c.HasSubCommands() {
		return verb, p.group(c, rest)
	}

	rest, err = twoDashes(c, rest)
	if err != nil {
		return verb, err
	}
	root.SetArgs(append(path, rest...))
	return verb, root.ExecuteContext(ctx)
}

// group answers for a command that only has others, of which rest names none.
func (p *program) group(c *cobra.Command, rest []string) error {
	c.InitDefaultHelpFlag()
	switch {
	case len(rest) == 0 && !c.HasParent(): // the usage is the fault's text
		c.SetOut(p.err)
		return errors.Join(c.Help(), exitCode(exitUsage))
	case len(rest) == 0:
		return errors.Join(c.Help(), usageError{fmt.Errorf("a command is missing: see %s help", c.CommandPath())})
	case slices.Contains([]string{"help", "-h", "-help", "--help"}, rest[0]):
		return c.Help()
	}
	return usageError{fmt.Errorf("unknown command %q: see %s help", rest[0], c.CommandPath())}
}

// twoDashes spells flags as pflag wants them. Those of the standard library,
// which came before, were content with one dash, and so are units, scripts and
// habits.
func twoDashes(c *cobra.Command, args []string) ([]string, error) {
	c.InitDefaultHelpFlag()
	c.InheritedFlags() // brings them together with its own
	spelled := make([]string, 0, len(args))
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(spelled, args[i:]...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			spelled = append(spelled, arg)
			continue
		}

		name, value, hasValue := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		flag := c.Flags().Lookup(name)
		if flag == nil && len(name) == 1 {
			flag = c.Flags().ShorthandLookup(name)
		}
		if flag == nil {
			return nil, usageError{fmt.Errorf("flag provided but not defined: -%s", name)}
		}
		if !hasValue && flag.NoOptDefVal == "" { // the next argument is its value, whatever it looks like
			if i++; i == len(args) {
				return nil, usageError{fmt.Errorf("flag needs an argument: -%s", name)}
			}
			value, hasValue = args[i], true
		}
		if hasValue {
			value = "=" + value
		}
		spelled = append(spelled, "--"+flag.Name+value)
	}
	return spelled, nil
}

// noArguments is for commands that take flags only.
func noArguments(_ *cobra.Command, words []string) error {
	if len(words) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", words[0])}
	}
	return nil
}

// report prints a fault of a command and returns the exit code for it.
func report(s streams, verb string, err error) int {
	if err == nil {
		return exitOK
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code) // the other process has said it
	}
	fmt.Fprintf(s.err, "%s: %s\n", strings.TrimSpace("rockpool-agent "+verb), oneLine(err.Error()))

	switch {
	case isA[usageError](err):
		return exitUsage
	case isA[configError](err):
		return exitConfig
	case errors.Is(err, client.ErrUnreachable):
		return exitUnavailable
	}

	switch agent.ErrorCode(err) {
	case agent.CodeValidation:
		return exitUsage
	case agent.CodeNotFound:
		return exitNotFound
	case agent.CodeConflict:
		return exitConflict
	case agent.CodeUnavailable:
		return exitUnavailable
	}

	return exitFailure
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// oneLine is a text without line ends.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// usageError is a fault in how the program was called.
type usageError struct{ error }

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(p.out, "rockpool-agent %s %s/%s %s\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
			return err
		},
	}
}
