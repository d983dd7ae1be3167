package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	vsock "github.com/rockpool/rootvm/agent/streams"
	"github.com/rockpool/rootvm/guest"
)

// streamsCommand serves what the host opens over vsock.
func (p *program) streamsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "streams",
		Short: "as admin, where the VM has vsock: the channel, ports and commands for the host",
		Args:  noArguments,
		RunE:  func(c *cobra.Command, _ []string) error { return serveStreams(c.Context(), p.streams) },
	}
}

// serveStreams serves until ctx ends.
func serveStreams(ctx context.Context, s streams) error {
	log := slog.New(slog.NewJSONHandler(s.err, nil))
	if !vsock.Present("/") {
		log.Info("this VM has no vsock: the host reaches it another way")
		return nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return fmt.Errorf("streams: %w", err)
	}
	l, err := vsock.Listen()
	if err != nil {
		return fmt.Errorf("streams: listen on vsock: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	return (&vsock.Server{Host: vsock.FromHost, Channel: guest.ChannelSocket, Home: home, Log: log}).Serve(ctx, l)
}
