package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

const (
	defaultTail = 200
	maxTail     = 10000
)

// logs streams as text what a workspace's processes wrote, or with
// source=steps what its jobs did.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	tail, err := number(q, api.QueryTail, defaultTail)
	if err == nil && (tail < 0 || tail > maxTail) {
		err = invalid(api.QueryTail, fmt.Sprintf("must be a number from 0 to %d", maxTail))
	}
	if err != nil {
		return err
	}
	follow, err := boolean(q, api.QueryFollow)
	if err != nil {
		return err
	}
	source := q.Get(api.QuerySource)
	if source != "" && source != api.LogContainer && source != api.LogSteps {
		return invalid(api.QuerySource, "must be "+api.LogContainer+" or "+api.LogSteps)
	}
	if _, err := s.ControlPlane.Workspace(r.Context(), id); err != nil {
		return err
	}

	ctx, cancel := streamContext(r)
	defer cancel()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		return nil
	}
	out := newStream(w)
	if follow { // nothing may be written for long: say that it began
		w.WriteHeader(http.StatusOK)
		_ = out.c.Flush()
	}

	if source == api.LogSteps {
		err = s.stepLog(ctx, id, tail, follow, out)
	} else {
		err = s.ControlPlane.Logs(ctx, id, tail, follow, out)
	}
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return nil // the client or the agent goes: the end it asked for
	}
	return err
}

// stepLog writes the last steps of the workspace's job, and with follow those
// that come.
func (s *Server) stepLog(ctx context.Context, id string, tail int, follow bool, w io.Writer) error {
	var events <-chan agent.Event
	if follow {
		events, _ = s.ControlPlane.Events(ctx, "", 0) // first, so that none is missed
	}
	steps, err := s.ControlPlane.Steps(ctx, id)
	if err != nil {
		return err
	}

	for _, step := range steps[max(0, len(steps)-tail):] {
		if err := writeStep(w, step); err != nil {
			return err
		}
	}

	for follow {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-events:
			switch {
			case !ok, e.WorkspaceID == id && e.Kind == agent.EventDeleted:
				return nil
			case e.WorkspaceID == id && e.Step != nil:
				if err := writeStep(w, *e.Step); err != nil {
					return err
				}
			}
		}
	}

	return nil
}

// writeStep writes one line.
func writeStep(w io.Writer, step agent.Step) error {
	at, text := step.StartedAt, step.Title
	if step.State != agent.StepRunning {
		at = step.EndedAt
		text += fmt.Sprintf(": %s after %.1f s", step.State, step.EndedAt.Sub(step.StartedAt).Seconds())
	}
	if step.Message != "" {
		text += ": " + step.Message
	}
	_, err := fmt.Fprintf(w, "%s %s %s\n", at.UTC().Format("2006-01-02T15:04:05.000Z"), step.Job, text)
	return err
}
