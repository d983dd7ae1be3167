package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm/watch"
)

// channel keeps a connection to the guest and passes on what it says. Lines
// that are not understood are dropped: the guest is not trusted.
type channel struct {
	machine Machine
	events  chan guest.Message
	send    chan guest.Request // requests to the guest
	retry   time.Duration

	jumped   chan struct{} // holds one when the guest is to be told that the host's clock has jumped
	asked    chan struct{} // holds one when the guest has asked for the host's time
	changed  chan struct{} // holds one when the host's networks are to be told
	mu       sync.Mutex
	networks []string // of the host
	known    bool     // networks were looked at
	owed     bool     // the clock has jumped, and the guest has not asked for the time since

	files   *watch.Stream // events of the shared directory; nil without one
	batches chan guest.FileBatch
}

// newChannel is the channel of a machine.
func newChannel(m Machine) *channel {
	return &channel{
		machine: m, events: make(chan guest.Message), send: make(chan guest.Request), retry: time.Second,
		changed: make(chan struct{}, 1), jumped: make(chan struct{}, 1), asked: make(chan struct{}, 1),
		batches: make(chan guest.FileBatch),
	}
}

// run connects again and again until ctx ends.
func (c *channel) run(ctx context.Context) {
	for ctx.Err() == nil {
		if conn, err := c.machine.Channel(ctx); err == nil {
			c.exchange(ctx, conn)
		}
		select {
		case <-ctx.Done():
		case <-time.After(c.retry):
		}
	}
}

// exchange asks for everything that was missed and then listens until the
// connection ends.
func (c *channel) exchange(ctx context.Context, conn io.ReadWriteCloser) {
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { conn.Close() })
	var wg sync.WaitGroup
	defer wg.Wait() // so that nothing meant for the next connection is taken for this one
	defer cancel()
	c.remindOfJump()

	wg.Go(func() {
		defer cancel()
		c.call(ctx, json.NewEncoder(conn))
	})
	if c.files != nil {
		wg.Go(func() { c.sendFiles(ctx) })
	}

	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, guest.MaxLine)
	for lines.Scan() {
		var e guest.Message
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		switch e.Event {
		case guest.EventFiles:
			c.takeFiles(e.Files)
			continue
		case guest.EventClock:
			c.noteAsked()
			continue
		case guest.EventDisk:
			if e.Disk == nil || e.Disk.Validate() != nil {
				continue
			}
		case guest.EventReady: // it may have heard nothing before
			c.remindOfJump()
		}
		e.Phase = guest.Phase(cleanLine(string(e.Phase)))
		for _, text := range []*string{&e.Version, &e.Unit, &e.Message} {
			*text = cleanLine(*text)
		}
		select {
		case c.events <- e:
		case <-ctx.Done():
			return
		}
	}
}

// call asks the guest for its state, tells it the host's networks, and then
// what there is to ask and to tell, until the connection ends.
func (c *channel) call(ctx context.Context, calls *json.Encoder) {
	next := guest.Call{Request: guest.RequestStatus}
	tell := true // the networks, after the state
	for {
		if calls.Encode(next) != nil {
			return
		}

		for decided := false; !decided; {
			if tell {
				if networks, known := c.networksCall(); known {
					next, tell, decided = networks, false, true
					continue
				}
			}
			select {
			case <-ctx.Done():
				return
			case request := <-c.send:
				next, decided = guest.Call{Request: request}, true
			case <-c.jumped:
				next, decided = guest.Call{Request: guest.RequestClock}, true
			case <-c.asked: // the guest waits for it, so this is the time when it hears it
				next, decided = guest.Call{Request: guest.RequestClock, HostClock: time.Now().UnixNano()}, true
			case batch := <-c.batches:
				next, decided = guest.Call{Request: guest.RequestFiles, Files: &batch}, true
			case <-c.changed:
				tell = true
			}
		}
	}
}
