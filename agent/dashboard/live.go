package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
)

const (
	// gather is how long events are collected before a page is rendered anew:
	// changes come in bursts.
	gather = 50 * time.Millisecond
	// beat is how often a quiet stream says that it lives, so that both ends
	// notice a broken connection.
	beat = 15 * time.Second
	// writeLimit is how long a browser may take to read what was written.
	writeLimit = 30 * time.Second
	// logTail is how many lines of a log a page begins with.
	logTail = 200
)

// follow says what a page follows.
type follow struct {
	wants  func(agent.Event) bool
	render func(context.Context) (map[string]region, error)
	every  time.Duration // renders without an event too; 0 does not
	gone   string        // where to go when what the page shows is no more
}

// ended reports whether err says that what the page shows is no more.
func (f follow) ended(err error) bool {
	return f.gone != "" && agent.ErrorCode(err) == agent.CodeNotFound
}

// live streams the regions of a page whenever their HTML changes, all of them
// at first. It ends when the browser goes or something fails; the browser then
// comes again.
func (d *Dashboard) live(w http.ResponseWriter, r *http.Request, f follow) error {
	ctx, cancel := d.streaming(r)
	defer cancel()
	events, _ := d.ControlPlane.Events(ctx, "", 0) // before the first look, so that nothing falls between
	s := stream{w: w, control: http.NewResponseController(w), sent: map[string]string{}}
	now, err := f.render(ctx)
	if err != nil && !f.ended(err) {
		return err
	}

	s.open()
	if err != nil { // it ended while nobody looked
		return s.event("go", f.gone)
	}
	if r.Method == http.MethodHead {
		return nil
	}
	var tick <-chan time.Time
	if f.every > 0 {
		t := time.NewTicker(f.every)
		defer t.Stop()
		tick = t.C
	}
	alive := time.NewTicker(beat)
	defer alive.Stop()

	for {
		if err := s.regions(now); err != nil {
			return nil // the browser is gone
		}
		more, err := s.wait(ctx, f.wants, events, tick, alive.C)
		if err != nil || !more {
			return nil
		}
		now, err = f.render(ctx)
		if f.ended(err) {
			return s.event("go", f.gone)
		}
		if err != nil {
			if ctx.Err() == nil {
				d.Log.Error("live page failed", "path", r.URL.Path, "err", err)
			}
			return nil
		}
	}
}

// streaming is r's context, which also ends with the agent: a stream has no
// end of its own that a shutdown could wait for.
func (d *Dashboard) streaming(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	go func() {
		select {
		case <-d.Closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// stream writes server-sent events.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	sent    map[string]string // hash by region
}

func (s *stream) open() {
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(s.w, "retry: 1000\n\n")
}

// wait returns true when it is time to look again: an event that is wanted
// and those that follow at once, or a tick. False is the end of the events.
func (s *stream) wait(ctx context.Context, wants func(agent.Event) bool, events <-chan agent.Event, tick, alive <-chan time.Time) (bool, error) {
	var gathered <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case <-gathered:
			return true, nil
		case <-tick:
			return true, nil
		case <-alive:
			if err := s.write(": alive\n\n"); err != nil {
				return false, err
			}
		case e, ok := <-events:
			if !ok {
				return false, nil
			}
			if gathered == nil && wants(e) {
				gathered = time.After(gather)
			}
		}
	}
}

// regions sends those that changed since they were sent last.
func (s *stream) regions(now map[string]region) error {
	var changed []region
	for name, r := range now {
		if s.sent[name] != r.Hash {
			s.sent[name] = r.Hash
			changed = append(changed, r)
		}
	}
	if changed == nil {
		return nil
	}
	slices.SortFunc(changed, func(a, b region) int { return strings.Compare(a.Name, b.Name) })
	return s.event("regions", changed)
}

func (s *stream) event(name string, data any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(data); err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	return s.write("event: " + name + "\ndata: " + b.String() + "\n") // the encoder ends its line
}

func (s *stream) write(text string) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeLimit)) // not all writers have one
	if _, err := io.WriteString(s.w, text); err != nil {
		return err
	}
	return s.control.Flush()
}

// log streams what the workspace's processes write, as plain text, until they
// end or the browser goes.
func (d *Dashboard) log(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := d.streaming(r)
	defer cancel()
	out := &logWriter{w: w, control: http.NewResponseController(w)}
	err := d.ControlPlane.Logs(ctx, r.PathValue("id"), logTail, true, out)
	if err != nil && !out.begun {
		return err
	}
	if err != nil && ctx.Err() == nil {
		d.Log.Warn("log ended early", "workspace", r.PathValue("id"), "err", err)
	}
	return out.begin()
}

// logWriter sends text at once, without the control sequences that are meant
// for terminals.
type logWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
	filter  ansiFilter
}

// begin sends the header, before the first byte or instead of it.
func (l *logWriter) begin() error {
	if l.begun {
		return nil
	}
	l.begun = true
	l.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	l.w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	l.w.WriteHeader(http.StatusOK)
	return l.control.Flush()
}

func (l *logWriter) Write(p []byte) (int, error) {
	if err := l.begin(); err != nil {
		return 0, err
	}
	_ = l.control.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := l.w.Write(l.filter.clean(p)); err != nil {
		return 0, err
	}
	return len(p), l.control.Flush()
}

// ansiFilter removes escape sequences (ECMA-48: CSI and OSC) and control
// characters, also when they are cut between two writes.
type ansiFilter struct {
	state byte // 0 text, '\x1b' after an escape, '[' in a CSI, ']' in an OSC
}

func (f *ansiFilter) clean(p []byte) []byte {
	out := make([]byte, 0, len(p))
	for _, c := range p {
		switch f.state {
		case 0:
			if c == 0x1b {
				f.state = c
			} else if c >= ' ' && c != 0x7f || c == '\n' || c == '\t' {
				out = append(out, c)
			}
		case 0x1b:
			f.state = 0
			if c == '[' || c == ']' {
				f.state = c
			}
		case '[':
			if c >= '@' && c <= '~' || c < ' ' {
				f.state = 0
			}
		case ']':
			if c == 0x07 || c == '\n' {
				f.state = 0
			} else if c == 0x1b {
				f.state = c // the terminator's first byte
			}
		}
	}

	return out
}
