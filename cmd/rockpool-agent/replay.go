package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/agent/replay"
	"github.com/rockpool/rootvm/guest"
)

// replayCommand raises events of files for the agent, on stdin and stdout.
func (p *program) replayCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "replay",
		Short: "as root, for rockpool-replay.socket: raise the events of files that the host changed",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			r := &replay.Replayer{Dir: guest.ShareDir, Orphans: replay.NewOrphans(guest.ShareDir)}
			go r.Orphans.Run(c.Context())
			own, err := replay.NewOwn()
			if err != nil { // programs then hear twice of what they write
				textLog(streams{out: p.err}).Warn("what programs in the VM write is not known", "err", err)
			} else {
				defer own.Close()
				r.Own = own
			}
			return replay.Serve(c.Context(), p.in, p.out, r)
		},
	}
}

// replayRetry is the time between two tries to reach the helper.
const replayRetry = 3 * time.Second

// replayer starts what passes the host's file events on to root.
func replayer(ctx context.Context, wg *sync.WaitGroup, log *slog.Logger) *replay.Client {
	client := replay.NewClient(guest.ReplaySocket, replayRetry, log)
	wg.Go(func() { client.Run(ctx) })
	return client
}
