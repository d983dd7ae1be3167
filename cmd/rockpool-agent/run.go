package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

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

// command is one subcommand.
type command struct {
	name, usage string
	run         commandFunc
}

// commandFunc runs a command in this process.
type commandFunc func(ctx context.Context, args []string, s streams, env func(string) string) error

func commands() []command {
	return []command{
		{"serve", "the daemon: API and pages on a unix socket, the channel to the host", serve},
		{"setup", "as root, early on each boot: disks, accounts, keys, credentials", setUp},
		{"mount-share", "as root: mount the host's directory at /mnt/rockpool", mountShare},
		{"ws", "list, create, start, stop and delete workspaces, read their logs", reachingAgent("ws", workspaces)},
		{"doctor", "look at everything that the agent needs, and say what to do", doctor},
		{"backup", "copy the database to a file, also while it is in use", backup},
		{"restore", "replace the database by a backup, while the agent is stopped", restore},
		{"slot", "as root, for rockpool-slots.socket: make a view of the workspace image", makeView},
		{"version", "print the version", printVersion},
	}
}

// run is the program. Ordinary messages go to stdout and a fault, in one
// line, to stderr, so that a unit can send stderr to the console as well.
func run(ctx context.Context, args []string, in io.Reader, out, err io.Writer, env func(string) string) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	s := streams{in: in, out: out, err: err}
	if len(args) == 0 {
		usage(s.err)
		return exitUsage
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(s.out)
		return exitOK
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return report(s, c.name, c.run(ctx, args[1:], s, env))
		}
	}
	fmt.Fprintf(s.err, "rockpool-agent: unknown command %q: see rockpool-agent help\n", args[0])
	return exitUsage
}

// report prints a fault and returns the exit code for it.
func report(s streams, name string, err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code) // the other process has said it
	}
	fmt.Fprintf(s.err, "rockpool-agent %s: %s\n", name, oneLine(err.Error()))
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

// reachingAgent is a command that is run as the agent's user when the socket
// is not this user's to use.
func reachingAgent(name string, run commandFunc) commandFunc {
	return func(ctx context.Context, args []string, s streams, env func(string) string) error {
		socket := cmp.Or(env("ROCKPOOL_SOCKET"), defaultSocket)
		if os.Geteuid() != 0 && needsAgentUser(socket) {
			return asAgentUser(ctx, s, append([]string{name}, args...)...)
		}
		return run(ctx, args, s, env)
	}
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

type usageError struct{ error }

// parse reads flags; what is wrong with them is one line.
func parse(fs *flag.FlagSet, args []string, s streams) error {
	fs.SetOutput(io.Discard)
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(s.out)
		fs.Usage()
		return err
	}
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if err != nil {
		return usageError{err}
	}
	return nil
}

// parseMixed reads flags and words in any order, and returns the words.
func parseMixed(fs *flag.FlagSet, args []string, s streams) ([]string, error) {
	fs.SetOutput(io.Discard)
	var words []string
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(s.out)
			fs.Usage()
			return nil, err
		}
		if err != nil {
			return nil, usageError{err}
		}
		if fs.NArg() == 0 {
			return words, nil
		}
		words = append(words, fs.Arg(0))
		args = fs.Args()[1:]
	}
}

func usage(w io.Writer) {
	fmt.Fprint(w, "Usage: rockpool-agent <command> [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-12s %s\n", c.name, c.usage)
	}
}

func printVersion(_ context.Context, args []string, s streams, _ func(string) string) error {
	if err := parse(flag.NewFlagSet("version", flag.ContinueOnError), args, s); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.out, "rockpool-agent %s %s/%s %s\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
	return err
}
