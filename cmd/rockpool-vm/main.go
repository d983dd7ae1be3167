// Command rockpool-vm supervises one instance of the Root VM on a host. It is
// started by vm.Start, detached, and not meant to be run by hand:
//
//	rockpool-vm launch DIR	launch the machine that was prepared in DIR, or attach to it
//	rockpool-vm attach DIR	attach to the machine of DIR, whose supervisor died
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/qemu"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// errUsage is a command line that is not understood.
var errUsage = errors.New("usage: rockpool-vm launch|attach DIR")

// run is main without the process: ready receives the one line that tells the
// caller how the launch went.
func run(ctx context.Context, args []string, ready io.Writer, stderr io.Writer) int {
	err := errUsage
	if len(args) == 2 && (args[0] == "launch" || args[0] == "attach") {
		err = vm.Supervise(ctx, args[1], vm.SuperviseOptions{
			Drivers: vm.Drivers{"qemu": func() vm.Driver { return new(qemu.Driver) }},
			Launch:  args[0] == "launch",
			Ready:   ready,
			Log:     slog.New(slog.NewTextHandler(stderr, nil)),
		})
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
