package http

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// defaultHeartbeat is shorter than what proxies take for a dead connection.
const defaultHeartbeat = 15 * time.Second

// writeLimit is how long a client of a stream may take to read what was
// written.
const writeLimit = 30 * time.Second

// events streams what happens, as [api.Event] says.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	last := r.Header.Get(api.HeaderLastEventID)
	epoch, after, ok := api.ParseEventID(last)
	if last != "" && !ok {
		return invalid(api.HeaderLastEventID, "must be the id of an event")
	}
	w.Header().Set("Content-Type", api.TypeEvents)
	w.Header().Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		return nil
	}
	ctx, cancel := streamContext(r)
	defer cancel()
	events, reset := s.ControlPlane.Events(ctx, epoch, after)
	out := newStream(w)
	if _, err := out.Write(opening(reset)); err != nil {
		return nil // the client has gone
	}
	s.copyEvents(ctx, out, events)
	return nil
}

// opening is what every stream begins with: how soon to come back after an
// end, and whether to read everything anew.
func opening(reset bool) []byte {
	b := []byte("retry: 1000\n\n")
	if reset {
		b = append(b, "event: "+api.EventReset+"\ndata: {}\n\n"...)
	}
	return b
}

// copyEvents writes events, and a comment when there are none for a while,
// until either side ends.
func (s *Server) copyEvents(ctx context.Context, out *stream, events <-chan agent.Event) {
	interval := s.Heartbeat
	if interval <= 0 {
		interval = defaultHeartbeat
	}
	beat := time.NewTicker(interval)
	defer beat.Stop()

	for {
		frame := []byte(": heartbeat\n\n")
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				return // too slow: the client comes back with its last id
			}
			var err error
			if frame, err = api.EventFrame(e); err != nil {
				s.Log.Error("encode event", "err", err)
				return
			}
		case <-beat.C:
		}
		if _, err := out.Write(frame); err != nil {
			return
		}
	}
}

// stream writes to a client at once, and gives up on one that does not read.
type stream struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func newStream(w http.ResponseWriter) *stream {
	return &stream{w: w, c: http.NewResponseController(w)}
}

// Write writes b and flushes it.
func (s *stream) Write(b []byte) (int, error) {
	if err := s.c.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := s.w.Write(b)
	if err != nil {
		return n, err
	}
	return n, s.c.Flush()
}
