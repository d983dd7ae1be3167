package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"time"
)

// guestEvent is a line that the guest sends on the channel.
type guestEvent struct {
	Event   string  `json:"event"` // phase, ready, failed, stopping or stopped
	Phase   string  `json:"phase"`
	Seconds float64 `json:"seconds"` // since the guest's kernel started
	Version string  `json:"version"`
	Unit    string  `json:"unit"`
	Message string  `json:"message"`
}

// maxGuestLine is the longest line that either side sends.
const maxGuestLine = 64 << 10

// channel keeps a connection to the guest and passes on what it says. Lines
// that are not understood are dropped: the guest is not trusted.
type channel struct {
	machine Machine
	events  chan guestEvent
	send    chan string // requests to the guest
	retry   time.Duration
}

// run connects again and again until ctx ends.
func (c *channel) run(ctx context.Context) {
	for ctx.Err() == nil {
		if conn, err := c.machine.Channel(ctx); err == nil {
			c.talk(ctx, conn)
		}
		select {
		case <-ctx.Done():
		case <-time.After(c.retry):
		}
	}
}

// talk asks for everything that was missed and then listens until the
// connection ends.
func (c *channel) talk(ctx context.Context, conn io.ReadWriteCloser) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() {
		defer cancel()
		for request := "status"; ; {
			if _, err := io.WriteString(conn, `{"request":"`+request+`"}`+"\n"); err != nil {
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
	lines.Buffer(nil, maxGuestLine)
	for lines.Scan() {
		var e guestEvent
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		for _, text := range []*string{&e.Phase, &e.Version, &e.Unit, &e.Message} {
			*text = cleanLine(*text)
		}
		select {
		case c.events <- e:
		case <-ctx.Done():
			return
		}
	}
}
