package metrics_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/metrics"
)

type source struct {
	counts metrics.Counts
	err    error
}

func (s source) Counts(context.Context) (metrics.Counts, error) { return s.counts, s.err }

func scrape(m *metrics.Metrics) string {
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest("GET", "/api/metrics", nil))
	return w.Body.String()
}

func want(t *testing.T, got string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains(got, "\n"+l+"\n") {
			t.Errorf("no line %q", l)
		}
	}
}

func TestMetrics_stored(t *testing.T) {
	m := metrics.New(source{counts: metrics.Counts{
		Workspaces: map[agent.Status]int{agent.StatusRunning: 3},
		Jobs:       map[metrics.Job]int{{Kind: agent.JobCreate, State: agent.JobQueued}: 2},
		Orphans:    1,
		RuntimeUp:  true,
		Disk: &agent.DiskState{
			Size: 100, Free: 40, Rest: 2,
			Workspaces: []agent.DiskShare{{Name: "one", Used: 30, Limit: 50}, {Name: "two", Used: 8, Limit: 9}},
			Orphans:    []agent.DiskShare{{ID: "x", Used: 5}},
			Images:     []agent.ImageUsage{{Size: 7}, {Size: 8}},
		},
	}}, "1.2", slog.New(slog.DiscardHandler))
	want(t, scrape(m),
		`rockpool_workspaces{status="running"} 3`,
		`rockpool_workspaces{status="error"} 0`,
		`rockpool_jobs{kind="create",state="queued"} 2`,
		`rockpool_jobs{kind="delete",state="parked"} 0`,
		`rockpool_orphans 1`,
		`rockpool_runtime_up 1`,
		`rockpool_disk_size_bytes 100`,
		`rockpool_disk_free_bytes 40`,
		`rockpool_disk_used_bytes{what="workspaces"} 38`,
		`rockpool_disk_used_bytes{what="orphans"} 5`,
		`rockpool_disk_used_bytes{what="images"} 15`,
		`rockpool_disk_used_bytes{what="rest"} 2`,
		`rockpool_workspace_disk_used_bytes{workspace="two"} 8`,
		`rockpool_workspace_disk_limit_bytes{workspace="one"} 50`,
		`rockpool_build_info{version="1.2"} 1`,
	)
}

// TestMetrics_sourceGone: what can be counted still is.
func TestMetrics_sourceGone(t *testing.T) {
	m := metrics.New(source{err: errors.New("locked")}, "1.2", slog.New(slog.DiscardHandler))
	m.Request("/api/ping", "GET", 200, time.Millisecond)
	m.Request("none", "BREW", 404, time.Millisecond)
	got := scrape(m)
	want(t, got, `rockpool_http_requests_total{method="GET",route="/api/ping",status="200"} 1`, `rockpool_http_requests_total{method="other",route="none",status="404"} 1`)
	if strings.Contains(got, "rockpool_workspaces{") || !strings.Contains(got, "go_goroutines") {
		t.Error("wrong metrics without a source")
	}
}

// watcher gives out one batch of events for each stream, and ends the test's
// context after the last.
type watcher struct {
	batches [][]agent.Event
	asked   []uint64
	end     context.CancelFunc
}

func (w *watcher) Events(_ context.Context, _ string, after uint64) (<-chan agent.Event, bool) {
	w.asked = append(w.asked, after)
	batch := w.batches[0]
	w.batches = w.batches[1:]
	ch := make(chan agent.Event, len(batch))
	for _, e := range batch {
		ch <- e
	}
	close(ch)
	if len(w.batches) == 0 {
		w.end()
	}
	return ch, false
}

func TestMetrics_Watch(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	step := func(seq uint64, job agent.JobKind, name string, state agent.StepState, from, to int) agent.Event {
		return agent.Event{Seq: seq, Kind: agent.EventStep, WorkspaceID: "w", At: at(to), Step: &agent.Step{Job: job, Name: name, State: state, StartedAt: at(from), EndedAt: at(to)}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{end: cancel, batches: [][]agent.Event{
		{
			step(1, agent.JobCreate, agent.StepContainer, agent.StepRunning, 100, 0),
			step(2, agent.JobCreate, agent.StepContainer, agent.StepFailed, 100, 101),
			step(3, agent.JobCreate, agent.StepContainer, agent.StepRunning, 110, 0), // tried again
		},
		{
			step(4, agent.JobCreate, agent.StepContainer, agent.StepDone, 110, 112),
			step(5, agent.JobCreate, agent.StepCommit, agent.StepDone, 112, 113),
			step(6, agent.JobDelete, agent.StepRemove, agent.StepRunning, 200, 0),
			{Seq: 7, Kind: agent.EventDeleted, WorkspaceID: "w", At: at(204)},
		},
	}}
	m := metrics.New(source{}, "", slog.New(slog.DiscardHandler))
	m.Watch(ctx, w)
	if len(w.asked) != 2 || w.asked[1] != 3 {
		t.Errorf("streams begin after %v", w.asked)
	}
	want(t, scrape(m),
		`rockpool_job_seconds_sum{kind="create"} 13`,
		`rockpool_job_seconds_sum{kind="delete"} 4`,
		`rockpool_job_step_seconds_sum{kind="create",state="done",step="container"} 2`,
		`rockpool_job_step_seconds_count{kind="create",state="failed",step="container"} 1`,
	)
}

// TestMetrics_Watch_GivenUp: the time of a job that was given up, or ended for
// another one, is no part of the next one's.
func TestMetrics_Watch_GivenUp(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	step := func(job agent.JobKind, name string, state agent.StepState, from, to int) agent.Event {
		return agent.Event{Kind: agent.EventStep, WorkspaceID: "w", At: at(to), Step: &agent.Step{Job: job, Name: name, State: state, StartedAt: at(from), EndedAt: at(to)}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{end: cancel, batches: [][]agent.Event{{
		step(agent.JobStart, agent.StepContainer, agent.StepRunning, 100, 0),
		step(agent.JobStart, agent.StepContainer, agent.StepFailed, 100, 101),
		{Kind: agent.EventWorkspace, WorkspaceID: "w", At: at(101), Workspace: &agent.Workspace{ID: "w", Status: agent.StatusError}},
		step(agent.JobStart, agent.StepContainer, agent.StepRunning, 5000, 0), // the next day
		step(agent.JobStart, agent.StepContainer, agent.StepDone, 5000, 5001),
		step(agent.JobStart, agent.StepCommit, agent.StepDone, 5001, 5002),
		step(agent.JobStart, agent.StepContainer, agent.StepRunning, 6000, 0), // ended for a stop
		step(agent.JobStop, agent.StepStop, agent.StepRunning, 6500, 0),
		step(agent.JobStop, agent.StepStop, agent.StepDone, 6500, 6503),
		step(agent.JobStop, agent.StepCommit, agent.StepDone, 6503, 6503),
		step(agent.JobStart, agent.StepContainer, agent.StepRunning, 7000, 0), // ended for a deletion
		step(agent.JobDelete, agent.StepRemove, agent.StepRunning, 7500, 0),
		{Kind: agent.EventDeleted, WorkspaceID: "w", At: at(7504)},
	}}}
	m := metrics.New(source{}, "", slog.New(slog.DiscardHandler))
	m.Watch(ctx, w)
	want(t, scrape(m),
		`rockpool_job_seconds_sum{kind="start"} 2`, `rockpool_job_seconds_count{kind="start"} 1`,
		`rockpool_job_seconds_sum{kind="stop"} 3`,
		`rockpool_job_seconds_sum{kind="delete"} 4`,
	)
}
