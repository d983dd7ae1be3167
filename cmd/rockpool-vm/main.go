// Command rockpool-vm supervises one instance of the Root VM on a host. It is
// started by vm.Start, detached, and not meant to be run by hand:
//
//	rockpool-vm supervise DIR
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/qemu"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// errUsage is a command line that is not understood.
var errUsage = errors.New("usage: rockpool-vm supervise DIR")

// run is main without the process: ready receives the one line that tells the
// caller how the launch went.
func run(ctx context.Context, args []string, ready io.Writer, stderr io.Writer) int {
	drivers := map[string]func() vm.Driver{
		"qemu": func() vm.Driver { return new(qemu.Driver) },
	}
	err := errUsage
	if len(args) == 2 && args[0] == "supervise" {
		err = vm.Supervise(ctx, args[1], drivers, ready)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintln(stderr, err)
		return 2
	}
	fmt.Fprintln(stderr, "rockpool-vm:", err)
	return 1
}
