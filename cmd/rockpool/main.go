// Command rockpool runs the Rockpool Root VM on a host: see `rockpool --help`.
// It is one static file that needs neither a checkout nor Go, and it is its own
// supervisor.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/rockpool/rootvm/host"
	"github.com/rockpool/rootvm/host/cli"
)

// releaseKey is the public key that releases are signed with. A release stamps it;
// otherwise there is none.
var releaseKey string

func main() { os.Exit(run()) }

func run() int {
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", host.Name, err)
		return cli.ExitFailure
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return cli.Run(ctx, os.Args[1:], program(), host.Surroundings{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, HomeDir: os.UserHomeDir, Dir: dir,
	})
}

// program is the verbs' program with its client of registries.
func program() host.Program {
	p := host.Standalone()
	p.Artifacts = artifacts{}
	p.ReleaseKey = releaseKey
	return p
}
