package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// channel keeps a connection to the guest and passes on what it says. Lines
// that are not understood are dropped: the guest is not trusted.
type channel struct {
	machine Machine
	events  chan guest.Message
	send    chan guest.Request // requests to the guest
	retry   time.Duration
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
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	go func() {
		defer cancel()
		calls := json.NewEncoder(conn)
		for request := guest.RequestStatus; ; {
			if calls.Encode(guest.Call{Request: request}) != nil {
				return
			}
			select {
			case <-ctx.Done():
				return
			case request = <-c.send:
			}
		}
	}()

	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, guest.MaxLine)
	for lines.Scan() {
		var e guest.Message
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
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
