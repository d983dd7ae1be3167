package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
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
		header := http.Header{"Accept": {"text/event-stream"}}
		if lastID != "" {
			header.Set("Last-Event-ID", lastID)
		}
		resp, err := c.send(ctx, request{method: http.MethodGet, path: path("events"), header: header})
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
	if name == "reset" {
		return Event{Reset: true}, nil
	}
	var d struct {
		WorkspaceID string     `json:"workspaceId"`
		Workspace   *workspace `json:"workspace"`
		Step        *step      `json:"step"`
		Name        string     `json:"name"`
		At          time.Time  `json:"at"`
	}
	if err := json.Unmarshal([]byte(data), &d); err != nil {
		return Event{}, fmt.Errorf("read event %q: %w", id, err)
	}
	i := strings.LastIndexByte(id, '-')
	if i < 0 {
		return Event{}, errors.New("read events: an event without an id")
	}
	seq, err := strconv.ParseUint(id[i+1:], 10, 64)
	if err != nil {
		return Event{}, fmt.Errorf("read event %q: %w", id, err)
	}
	e := Event{ID: id, Event: agent.Event{
		Seq: seq, Epoch: id[:i], Kind: agent.EventKind(name), WorkspaceID: d.WorkspaceID, Name: d.Name, At: d.At,
	}}
	if d.Workspace != nil {
		w := d.Workspace.domain()
		e.Workspace = &w
	}
	if d.Step != nil {
		s := agent.Step(*d.Step)
		e.Step = &s
	}
	return e, nil
}
