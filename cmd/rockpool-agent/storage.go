package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/agent/storage"
)

// storageCommand answers the agent's requests.
func (p *program) storageCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "storage",
		Short: "as root, for rockpool-storage.socket: keep the files of workspaces",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := p.socketOfSystemd("rockpool-storage.socket")
			if err != nil {
				return err
			}
			defer l.Close()
			return storage.Serve(c.Context(), l, storage.InVM(), storage.Idle, slog.New(slog.NewJSONHandler(p.err, nil)))
		},
	}
}
