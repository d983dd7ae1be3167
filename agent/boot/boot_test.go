package boot_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/boot"
	"github.com/rockpool/rootvm/guest"
)

type fakeInit struct{ err error }

func (f fakeInit) Phases(context.Context) (map[guest.Phase]time.Duration, error) {
	return map[guest.Phase]time.Duration{guest.PhaseSSH: 9 * time.Second, guest.PhaseKernel: time.Second}, f.err
}

func (f fakeInit) FailedUnits(context.Context) ([]agent.FailedUnit, error) {
	return []agent.FailedUnit{{Unit: "x.service", Message: "exit-code"}}, nil
}

type fakeStack struct{ refuse atomic.Int32 }

func (f *fakeStack) Ready(context.Context) error {
	if f.refuse.Add(-1) >= 0 {
		return errors.New("connection refused")
	}
	return nil
}

func TestWatch_Run(t *testing.T) {
	for name, tt := range map[string]struct {
		init agent.Init
		want int
	}{
		"all known":      {fakeInit{}, 4},
		"no init system": {fakeInit{err: errors.New("no bus")}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			stack := &fakeStack{}
			stack.refuse.Store(3)
			record := &agent.BootRecord{}
			w := &boot.Watch{
				Init: tt.init, Stack: stack, Record: record,
				Uptime: func() time.Duration { return 12 * time.Second },
				Log:    slog.New(slog.DiscardHandler), Fast: time.Millisecond, Slow: time.Millisecond,
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			done := make(chan struct{})
			go func() { defer close(done); w.Run(ctx) }()
			for {
				events, more := record.Since(0)
				if len(events) == tt.want {
					break
				}
				select {
				case <-more:
				case <-ctx.Done():
					t.Fatalf("events: %v", events)
				}
			}
			cancel()
			<-done
			events, _ := record.Since(0)
			for _, e := range events {
				if e.Ready && e.At != 12*time.Second {
					t.Errorf("ready at %s", e.At)
				}
			}
		})
	}
}
