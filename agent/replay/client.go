package replay

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// Client passes batches to the helper, and its answers on. There is no helper
// before the host greets, which it does when it shares a directory.
type Client struct {
	Socket string
	Retry  time.Duration // before the host is asked again after the helper failed
	Log    *slog.Logger

	batches chan delivery
}

// delivery is a batch, and who wants the answer.
type delivery struct {
	batch guest.FileBatch
	say   func(guest.FileAnswer)
}

// NewClient makes a client, which does nothing before [Client.Run].
func NewClient(socket string, retry time.Duration, log *slog.Logger) *Client {
	return &Client{Socket: socket, Retry: retry, Log: log, batches: make(chan delivery, 2*guest.MaxFileBatches)}
}

// Take takes a batch and does not wait. say may be called later, with the
// answer to this or another batch. More than the host may send is dropped,
// which the helper sees by the numbers.
func (c *Client) Take(b guest.FileBatch, say func(guest.FileAnswer)) {
	select {
	case c.batches <- delivery{b, say}:
	default:
	}
}

// Run passes on until ctx ends.
func (c *Client) Run(ctx context.Context) {
	told := ""
	for {
		var first delivery
		select {
		case <-ctx.Done():
			return
		case first = <-c.batches:
		}
		err := c.converse(ctx, first)
		if ctx.Err() != nil {
			return
		}
		if err.Error() != told {
			told = err.Error()
			c.Log.Warn("file events of the host are not raised for a moment", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.Retry):
		}
		first.say(guest.FileAnswer{}) // the host greets again and tells what was lost
	}
}

// converse has one helper replay, beginning with a batch, until it ends.
func (c *Client) converse(ctx context.Context, next delivery) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Socket)
	if err != nil {
		return fmt.Errorf("reach the helper that raises events: %w", err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan guest.FileAnswer)
	go func() {
		defer cancel()
		listen(ctx, conn, answers)
	}()

	batches := json.NewEncoder(conn)
	for {
		if err := batches.Encode(next.batch); err != nil {
			return fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		say := next.say
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return errNoAnswer
			case a := <-answers:
				say(a)
			case next = <-c.batches:
				waiting = false
			}
		}
	}
}

// listen passes answers on until the connection or ctx ends.
func listen(ctx context.Context, conn net.Conn, answers chan<- guest.FileAnswer) {
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, guest.MaxLine)
	for lines.Scan() {
		var a guest.FileAnswer
		if json.Unmarshal(lines.Bytes(), &a) != nil {
			return
		}
		select {
		case answers <- a:
		case <-ctx.Done():
			return
		}
	}
}
