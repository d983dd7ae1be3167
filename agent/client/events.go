package client

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// Event is one server-sent event.
type Event struct {
	ID    string // to begin after it later
	Reset bool   // read everything anew; nothing else is set
	agent.Event
}

// Events yields what happens after the event with id lastID; "" begins now,
// with a reset. It ends after an error, and with nothing more when the agent
// ends the stream: then the caller begins anew after the last event. It ends
// silently with ctx.
func (c *Client) Events(ctx context.Context, lastID string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		header := http.Header{"Accept": {api.TypeEvents}}
		if lastID != "" {
			header.Set(api.HeaderLastEventID, lastID)
		}
		q := ask(api.Events)
		q.header = header
		resp, err := c.send(ctx, q)
		if err != nil {
			if ctx.Err() == nil {
				yield(Event{}, err)
			}
			return
		}
		defer resp.Body.Close()
		err = readEvents(resp.Body, func(e Event) bool { return yield(e, nil) })
		if err != nil && ctx.Err() == nil {
			yield(Event{}, err)
		}
	}
}

// readEvents takes a stream apart until it ends or yield returns false, which
// is no error.
func readEvents(r io.Reader, yield func(Event) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)

	var id, name, data string
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field == "id":
			id = value
		case field == "event":
			name = value
		case field == "data":
			data = value
		case lines.Text() != "" || name == "": // a comment, a retry, or the end of one
		default:
			e, err := decodeEvent(id, name, data)
			if err != nil {
				return err
			}
			if !yield(e) {
				return nil
			}
			name, data = "", ""
		}
	}

	if err := lines.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return nil
}

// decodeEvent understands one event.
func decodeEvent(id, name, data string) (Event, error) {
	if name == api.EventReset {
		return Event{Reset: true}, nil
	}
	e, err := api.DecodeEvent(id, name, data)
	return Event{ID: id, Event: e}, err
}
