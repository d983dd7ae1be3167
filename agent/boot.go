package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// FailedUnit is a systemd unit that has failed, and why as far as known.
type FailedUnit struct {
	Unit    string
	Message string
}

// Init is the view of the VM's init system that watching a boot needs.
type Init interface {
	// Phases returns the times of those phases that are over. A phase that
	// will never be known on this machine is left out.
	Phases(ctx context.Context) (map[guest.Phase]time.Duration, error)
	// FailedUnits returns the units in the failed state, in any order.
	FailedUnits(ctx context.Context) ([]FailedUnit, error)
}

// Stack tells whether the VM serves its users.
type Stack interface {
	// Ready returns nil when a request that enters as a user's would is
	// answered, and otherwise why not.
	Ready(ctx context.Context) error
}

// BootEvent is one thing learnt about a boot. Exactly one of Phase, Ready and
// Failed is set.
type BootEvent struct {
	Phase  guest.Phase
	Ready  bool
	Failed FailedUnit
	At     time.Duration // since the kernel's start; zero for Failed
}

// BootRecord remembers a boot's events, each once, in the order in which they
// became known. It is safe for concurrent use; the zero value is ready.
type BootRecord struct {
	mu      sync.Mutex
	events  []BootEvent
	changed chan struct{}
}

// Add records e and reports whether it was news.
func (r *BootRecord) Add(e BootEvent) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	same := func(o BootEvent) bool {
		return o.Phase == e.Phase && o.Ready == e.Ready && o.Failed.Unit == e.Failed.Unit
	}
	if slices.ContainsFunc(r.events, same) {
		return false
	}
	r.events = append(r.events, e)
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
	return true
}

// Since returns the events after the first n, and a channel that is closed
// when there are more.
func (r *BootRecord) Since(n int) ([]BootEvent, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return slices.Clone(r.events[min(n, len(r.events)):]), r.changed
}
