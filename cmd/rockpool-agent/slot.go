package main

import (
	"context"
	"flag"

	"github.com/rockpool/rootvm/agent/slots"
)

// makeView answers one request for a view, on stdin and stdout.
func makeView(_ context.Context, args []string, s streams, _ func(string) string) error {
	if err := parse(flag.NewFlagSet("slot", flag.ContinueOnError), args, s); err != nil {
		return err
	}
	v := slots.Views{Rootfs: slots.Rootfs, Dir: slots.Dir, SubUIDs: slots.SubUIDs, User: "rockpool"}
	return v.Answer(s.in, s.out)
}
