package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// Idle is how long a server waits for the next request before it ends: systemd
// starts another one then. A program of this size takes seconds to start under
// emulation, which each step of a workspace's start would pay several times.
const Idle = 2 * time.Minute

// Serve answers requests, each on a connection of its own, until ctx ends, which
// cuts those under way short, or until nobody asks anything for the time of idle.
func Serve(ctx context.Context, l *net.UnixListener, s agent.Storage, idle time.Duration, log *slog.Logger) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	var working atomic.Int32
	for {
		if err := l.SetDeadline(time.Now().Add(idle)); err != nil && ctx.Err() == nil {
			return fmt.Errorf("wait for a request: %w", err)
		}
		c, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded) && working.Load() == 0:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return fmt.Errorf("wait for a request: %w", err)
		}

		working.Add(1)
		wg.Go(func() {
			defer working.Add(-1)
			defer c.Close()
			if err := Answer(ctx, c, c, s); err != nil {
				log.Warn("a request was not done", "err", err)
			}
		})
	}
}
