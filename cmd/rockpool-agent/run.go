package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

// version is set by the image's build with -X main.version.
var version = "dev"

// The exit codes. Units use exitConfig to tell a fault that a restart does
// not cure (RestartPreventExitStatus=78).
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitConfig  = 78 // EX_CONFIG of sysexits(3)
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
	run         func(ctx context.Context, args []string, s streams, env func(string) string) error
}

func commands() []command {
	return []command{
		{"serve", "the daemon: API and pages on a unix socket, the channel to the host", serve},
		{"setup", "as root, early on each boot: disks, accounts, keys, credentials", setUp},
		{"mount-share", "as root: mount the host's directory at /mnt/rockpool", mountShare},
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
	fmt.Fprintf(s.err, "rockpool-agent %s: %s\n", name, oneLine(err.Error()))
	switch {
	case isA[usageError](err):
		return exitUsage
	case isA[configError](err):
		return exitConfig
	}
	return exitFailure
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
