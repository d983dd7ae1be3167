package storage_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/storage"
)

// slowUsage is a storage whose usage is told when it may be.
type slowUsage struct {
	agent.Storage
	tell chan struct{}
}

func (s slowUsage) Usage(ctx context.Context) (agent.StorageUsage, error) {
	select {
	case <-s.tell:
		return agent.StorageUsage{Size: 7}, nil
	case <-ctx.Done():
		return agent.StorageUsage{}, context.Cause(ctx)
	}
}

// TestServe: requests are answered at the same time; the server ends when nobody
// has asked for a while, not while somebody waits, and at once when it is told to.
func TestServe(t *testing.T) {
	for _, end := range []string{"idle", "told"} {
		t.Run(end, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := slowUsage{tell: make(chan struct{})}
			served := make(chan error, 1)
			go func() {
				served <- storage.Serve(ctx, l, s, 100*time.Millisecond, slog.New(slog.NewTextHandler(t.Output(), nil)))
			}()

			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					u, err := storage.Client{Socket: socket}.Usage(t.Context())
					if (err == nil) != (end == "idle") || err == nil && u.Size != 7 {
						t.Errorf("%+v, %v", u, err)
					}
				})
			}
			select {
			case err := <-served:
				t.Fatalf("it ended while it was asked: %v", err)
			case <-time.After(time.Second):
			}
			if end == "told" {
				cancel()
			} else {
				close(s.tell)
			}
			wg.Wait()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}
