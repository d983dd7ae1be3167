package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/rockpool/rootvm/builders/tart/tartcheck"
	"github.com/rockpool/rootvm/images/registry"
	"github.com/rockpool/rootvm/images/registry/push"
)

const usage = "usage: rockpool-release push [--plain-http] [--tart] LAYOUT REFERENCE"

// errUsage is a fault of the command line that was told already.
var errUsage = errors.New("usage")

// run is main without the process. It returns the exit code: 1 when something
// failed, 2 when the command line is wrong.
func run(ctx context.Context, args []string, _ io.Reader, _, stderr io.Writer, env func(string) string) int {
	if len(args) == 0 || args[0] != "push" {
		fmt.Fprintln(stderr, usage)
		return 2
	}
	switch err := runPush(ctx, args[1:], stderr, env); {
	case errors.Is(err, errUsage):
		return 2
	case err != nil:
		fmt.Fprintln(stderr, "rockpool-release:", err)
		return 1
	}
	return 0
}

// runPush copies an OCI layout to a registry and says its progress on stderr. It
// reads the variable REGISTRY_AUTH_FILE.
func runPush(ctx context.Context, args []string, stderr io.Writer, env func(string) string) error {
	flags := flag.NewFlagSet("rockpool-release push", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, usage)
		flags.PrintDefaults()
	}
	plain := flags.Bool("plain-http", false, "the registry has no TLS, or a certificate nobody knows")
	tart := flags.Bool("tart", false, "the layout is a VM for Tart: check all of it before, since Tart does not")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return errUsage
	}
	if flags.NArg() != 2 {
		return errors.New("push needs a layout and a reference")
	}

	if *tart {
		if err := tartcheck.Layout(ctx, flags.Arg(0), ""); err != nil {
			return err
		}
	}
	return push.Push(ctx, flags.Arg(0), registry.Remote{
		Reference: flags.Arg(1), PlainHTTP: *plain, AuthFile: env("REGISTRY_AUTH_FILE"),
		Say: func(line string) { fmt.Fprintln(stderr, " ", line) },
	})
}
