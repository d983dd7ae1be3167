package controlplane

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

const (
	remembered = 1024 // events that a client which returns can catch up with
	slack      = 256  // events a reader may lie behind
)

// hub numbers events, remembers the last ones and hands them to readers.
type hub struct {
	epoch string
	log   *slog.Logger

	mu      sync.Mutex
	last    uint64 // number of the newest event
	ring    []agent.Event
	readers map[chan agent.Event]struct{}
}

func newHub(epoch string, log *slog.Logger) *hub {
	return &hub{epoch: epoch, log: log, readers: map[chan agent.Event]struct{}{}}
}

// publish numbers events and hands them out. It never waits: a reader that is
// too slow loses its channel.
func (h *hub) publish(at time.Time, events []agent.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range events {
		h.last++
		e.Seq, e.Epoch, e.At = h.last, h.epoch, at
		if len(h.ring) < remembered {
			h.ring = append(h.ring, e)
		} else {
			h.ring[(e.Seq-1)%remembered] = e
		}
		for ch := range h.readers {
			select {
			case ch <- e:
			default:
				h.log.Warn("a reader of events is too slow")
				h.drop(ch)
			}
		}
	}
}

// drop ends a reader. The caller holds mu.
func (h *hub) drop(ch chan agent.Event) {
	if _, ok := h.readers[ch]; ok {
		delete(h.readers, ch)
		close(ch)
	}
}

// since returns the events after a number, and false when they are not all
// remembered or were never given out. The caller holds mu.
func (h *hub) since(epoch string, after uint64) ([]agent.Event, bool) {
	oldest := h.last - uint64(len(h.ring)) // the newest that is forgotten
	if epoch != h.epoch || after > h.last || after < oldest {
		return nil, false
	}
	missed := make([]agent.Event, 0, h.last-after)
	for n := after; n < h.last; n++ {
		missed = append(missed, h.ring[n%remembered])
	}
	return missed, true
}

// Events implements [agent.Watcher]. A client that has seen nothing yet asks
// with an empty epoch.
func (c *ControlPlane) Events(ctx context.Context, epoch string, after uint64) (<-chan agent.Event, bool) {
	h := c.events
	h.mu.Lock()
	defer h.mu.Unlock()
	missed, ok := h.since(epoch, after)
	ch := make(chan agent.Event, slack+len(missed))
	for _, e := range missed {
		ch <- e
	}
	h.readers[ch] = struct{}{}
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(ch)
	})
	return ch, !ok
}
