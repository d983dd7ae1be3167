package main

import (
	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/agent/slots"
)

// slotCommand answers one request for a view, on stdin and stdout.
func (p *program) slotCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "slot",
		Short: "as root, for rockpool-slots.socket: make a view of the workspace image",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			v := slots.Views{Rootfs: slots.Rootfs, Dir: slots.Dir, SubUIDs: slots.SubUIDs, User: "rockpool"}
			return v.Answer(p.in, p.out)
		},
	}
}
