// Package metrics counts what the agent does, for Prometheus. It owns a
// registry of its own, and imports only the domain.
package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rockpool/rootvm/agent"
)

// sourceLimit bounds how long a scrape waits for the source.
const sourceLimit = 2 * time.Second

// Counts is how many there are of what is stored.
type Counts struct {
	Workspaces map[agent.Status]int
	Jobs       map[Job]int
	Orphans    int  // containers and files without a workspace
	RuntimeUp  bool // the runtime answered when it was asked last

	Disk *agent.DiskState // nil while it is not known
}

// Job is a group of jobs.
type Job struct {
	Kind  agent.JobKind
	State agent.JobState
}

// Source knows what is stored.
type Source interface {
	Counts(ctx context.Context) (Counts, error)
}

// Metrics is the registry and what counts into it. Make one with [New].
type Metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	jobs     *prometheus.HistogramVec
	steps    *prometheus.HistogramVec
}

// New makes a registry that asks source at each scrape.
func New(source Source, version string, log *slog.Logger) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rockpool_http_requests_total",
			Help: "Requests that the agent answered.",
		}, []string{"route", "method", "status"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rockpool_http_request_seconds",
			Help:    "Time from a request's arrival to the end of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .5, 1, 5},
		}, []string{"route"}),
		jobs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rockpool_job_seconds",
			Help:    "Time from a job's first step to its last, retries included; of jobs that arrived.",
			Buckets: []float64{.01, .1, .5, 1, 2, 5, 10, 30, 60, 300},
		}, []string{"kind"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rockpool_job_step_seconds",
			Help:    "Time that a step of a job took.",
			Buckets: []float64{.01, .1, .5, 1, 2, 5, 10, 30, 60, 300},
		}, []string{"kind", "step", "state"}),
	}

	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "rockpool_build_info",
		Help:        "Always 1; the label is the agent's version.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		m.requests, m.latency, m.jobs, m.steps, build, stored{source},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling: promhttp.ContinueOnError, // what cannot be counted is left out
	})
	return m
}

// ServeHTTP answers a scrape.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

// Request counts one request. route is a pattern, never a path: there are as
// many series as routes. Methods that HTTP does not know are one series.
func (m *Metrics) Request(route, method string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	m.latency.WithLabelValues(route).Observe(took.Seconds())
}

// Watch counts jobs and steps until ctx ends. A stream of events that ends
// before is opened anew where it ended.
func (m *Metrics) Watch(ctx context.Context, w agent.Watcher) {
	epoch, last := "", uint64(0)
	begun := map[string]begunJob{} // by workspace
	for ctx.Err() == nil {
		events, _ := w.Events(ctx, epoch, last)
		for e := range events {
			epoch, last = e.Epoch, e.Seq
			m.count(begun, e)
		}
	}
}

// begunJob is a job that is under way.
type begunJob struct {
	kind agent.JobKind
	at   time.Time
}

// count counts one event. A job that is given up, or goes for another one, is
// not counted, and its time is none of that which comes after it.
func (m *Metrics) count(begun map[string]begunJob, e agent.Event) {
	job, ok := begun[e.WorkspaceID]
	switch {
	case e.Kind == agent.EventDeleted:
		if ok && job.kind == agent.JobDelete {
			m.jobs.WithLabelValues(string(agent.JobDelete)).Observe(e.At.Sub(job.at).Seconds())
		}
		delete(begun, e.WorkspaceID)
	case e.Workspace != nil && e.Workspace.Status == agent.StatusError:
		delete(begun, e.WorkspaceID)
	case e.Step == nil:
	case e.Step.State == agent.StepRunning:
		if !ok || job.kind != e.Step.Job {
			begun[e.WorkspaceID] = begunJob{e.Step.Job, e.Step.StartedAt}
		}
	default:
		m.steps.WithLabelValues(string(e.Step.Job), e.Step.Name, string(e.Step.State)).
			Observe(e.Step.EndedAt.Sub(e.Step.StartedAt).Seconds())
		if ok && job.kind == e.Step.Job && e.Step.Name == agent.StepCommit && e.Step.State == agent.StepDone {
			m.jobs.WithLabelValues(string(e.Step.Job)).Observe(e.Step.EndedAt.Sub(job.at).Seconds())
			delete(begun, e.WorkspaceID)
		}
	}
}

var (
	workspacesDesc = prometheus.NewDesc("rockpool_workspaces", "Workspaces by status.", []string{"status"}, nil)
	jobsDesc       = prometheus.NewDesc("rockpool_jobs", "Jobs by kind and state.", []string{"kind", "state"}, nil)
	orphansDesc    = prometheus.NewDesc("rockpool_orphans", "Containers and files without a workspace.", nil, nil)
	diskSizeDesc   = prometheus.NewDesc("rockpool_disk_size_bytes", "Size of the disk that workspaces share.", nil, nil)
	diskFreeDesc   = prometheus.NewDesc("rockpool_disk_free_bytes", "What nothing takes of it.", nil, nil)
	diskUsedDesc   = prometheus.NewDesc("rockpool_disk_used_bytes", "What takes it: files of workspaces, of those that are gone, images, the rest.", []string{"what"}, nil)
	filesDesc      = prometheus.NewDesc("rockpool_workspace_disk_used_bytes", "What the files of a workspace take.", []string{"workspace"}, nil)
	quotasDesc     = prometheus.NewDesc("rockpool_workspace_disk_limit_bytes", "What they may take.", []string{"workspace"}, nil)
	runtimeDesc    = prometheus.NewDesc("rockpool_runtime_up", "1 while the container runtime answers, else 0.", nil, nil)
)

// stored is the collector of what a source counts.
type stored struct{ source Source }

// Describe implements [prometheus.Collector].
func (s stored) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{workspacesDesc, jobsDesc, orphansDesc, runtimeDesc, diskSizeDesc, diskFreeDesc, diskUsedDesc, filesDesc, quotasDesc} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector]. Every status and every kind and
// state has a series, so that none goes away when it drops to nothing.
func (s stored) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), sourceLimit)
	defer cancel()
	counts, err := s.source.Counts(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(workspacesDesc, err)
		return
	}
	gauge := func(desc *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), labels...)
	}
	if counts.Disk != nil {
		collectDisk(ch, *counts.Disk)
	}

	for _, status := range []agent.Status{agent.StatusCreating, agent.StatusRunning, agent.StatusStopping, agent.StatusStopped, agent.StatusError} {
		gauge(workspacesDesc, counts.Workspaces[status], string(status))
	}

	for _, kind := range agent.JobKinds() {
		for _, state := range []agent.JobState{agent.JobQueued, agent.JobLeased, agent.JobParked} {
			gauge(jobsDesc, counts.Jobs[Job{kind, state}], string(kind), string(state))
		}
	}

	gauge(orphansDesc, counts.Orphans)
	up := 0
	if counts.RuntimeUp {
		up = 1
	}
	gauge(runtimeDesc, up)
}

// collectDisk tells who takes what of the disk. A workspace is a label: there are
// no more than the control plane allows.
func collectDisk(ch chan<- prometheus.Metric, d agent.DiskState) {
	gauge := func(desc *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), labels...)
	}
	var files, orphans int64
	for _, s := range d.Workspaces {
		files += s.Used
		gauge(filesDesc, s.Used, s.Name)
		gauge(quotasDesc, s.Limit, s.Name)
	}
	for _, s := range d.Orphans {
		orphans += s.Used
	}

	gauge(diskSizeDesc, d.Size)
	gauge(diskFreeDesc, d.Free)
	gauge(diskUsedDesc, files, "workspaces")
	gauge(diskUsedDesc, orphans, "orphans")
	gauge(diskUsedDesc, d.ImagesSize(), "images")
	gauge(diskUsedDesc, d.Rest, "rest")
}
