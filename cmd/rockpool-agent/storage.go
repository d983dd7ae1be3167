package main

import (
	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/agent/storage"
)

// storageCommand answers one request of the agent's, on stdin and stdout.
func (p *program) storageCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "storage",
		Short: "as root, for rockpool-storage.socket: keep the files of workspaces",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return storage.Answer(c.Context(), p.in, p.out, storage.InVM())
		},
	}
}
