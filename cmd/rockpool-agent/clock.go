package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/agent/clock"
	"github.com/rockpool/rootvm/guest"
)

// clockCommand answers one request of the agent, on stdin and stdout.
func (p *program) clockCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "clock",
		Short: "as root, for rockpool-clock.socket: set the clock by the host's",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			log := func(format string, args ...any) { fmt.Fprintf(p.err, format+"\n", args...) }
			return clock.System(log).Answer(p.in, p.out)
		},
	}
}

// followClock returns what has root set the clock by the host's, one call after
// the other. It does not wait: a time that had to would be another.
func followClock(ctx context.Context, wg *sync.WaitGroup, log *slog.Logger) func(time.Time) {
	times := make(chan time.Time)
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case host := <-times:
				if err := (clock.Client{Socket: guest.ClockSocket}).Follow(ctx, host); err != nil && ctx.Err() == nil {
					log.Warn("the clock stays as it is", "err", err)
				}
			}
		}
	})
	return func(host time.Time) {
		select {
		case times <- host:
		default:
			log.Warn("the host's clock was told while another time is being set; it is not set again")
		}
	}
}
