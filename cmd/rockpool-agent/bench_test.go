package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/client"
)

// BenchmarkAgent measures the program as a process of its own, with the stub:
// its memory idle and with 50 workspaces, how long requests over its socket
// take, and how long, step by step, until a workspace that is created or
// started runs. ROCKPOOL_AGENT names a program that is built already, such as
// the one of the image.
func BenchmarkAgent(b *testing.B) {
	program := os.Getenv("ROCKPOOL_AGENT")
	if program == "" {
		program = filepath.Join(b.TempDir(), "rockpool-agent")
		build := exec.CommandContext(b.Context(), "go", "build", "-o", program, ".")
		if out, err := build.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	p := place{b.TempDir()}
	for _, d := range []string{"state", "run", "setup"} {
		if err := os.Mkdir(p.path(d), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	pid, c := startProgram(b, program, p)
	idle := rss(b, pid)
	ids := fill(b, c, 50)
	full := rss(b, pid)
	ctx := b.Context()
	for _, m := range []struct {
		name string
		call func(i int) error
	}{
		{"one", func(i int) error { _, err := c.Workspace(ctx, ids[i%len(ids)]); return err }},
		{"list-25", func(int) error {
			_, _, err := c.ListWorkspaces(ctx, agent.Cursor{}, agent.DefaultPageSize)
			return err
		}},
		{"add-port", func(i int) error {
			id := ids[i%len(ids)]
			if _, err := c.AddPort(ctx, id, agent.NewPort{Port: 3000}); err != nil {
				return err
			}
			return c.RemovePort(ctx, id, 3000)
		}},
	} {
		b.Run(m.name, func(b *testing.B) { latency(b, m.call) })
	}
	b.Run("lifecycle", func(b *testing.B) { lifecycle(b, c) })
	b.Run("memory", func(b *testing.B) {
		b.ReportMetric(idle, "MB-idle")
		b.ReportMetric(full, "MB-50-workspaces")
		b.ReportMetric(rss(b, pid), "MB-after-requests")
	})
}

// startProgram runs the daemon until the benchmark ends.
func startProgram(b *testing.B, program string, p place) (pid int, c *client.Client) {
	b.Helper()
	cmd := exec.Command(program, "serve")
	for _, name := range []string{"ROCKPOOL_DATABASE", "ROCKPOOL_SOCKET", "ROCKPOOL_SETUP_DIR", "ROCKPOOL_CHANNEL", "ROCKPOOL_PROBE_URL", "RUNTIME", "ROCKPOOL_STUB_PAGES"} {
		cmd.Env = append(cmd.Env, name+"="+p.env(name))
	}
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	c = client.Unix(p.path("run/agent.sock"))
	limit, cancel := context.WithTimeout(b.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for c.Healthy(limit) != nil {
		select {
		case <-limit.Done():
			b.Fatal("the agent does not serve")
		case <-tick.C:
		}
	}
	return cmd.Process.Pid, c
}

// fill makes n workspaces that run, and returns their ids.
func fill(b *testing.B, c *client.Client, n int) []string {
	b.Helper()
	ids := make([]string, n)
	g, ctx := errgroup.WithContext(b.Context())
	for i := range n {
		g.Go(func() error {
			w, err := c.CreateWorkspace(ctx, agent.NewWorkspace{Name: fmt.Sprintf("ws-%02d", i)})
			if err != nil {
				return err
			}
			ids[i] = w.ID
			_, err = await(ctx, c, w.ID, func(agent.Step) {})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	return ids
}

// latency reports the median and the 99th percentile of call.
func latency(b *testing.B, call func(i int) error) {
	took := make([]time.Duration, 0, b.N)
	for i := range b.N {
		start := time.Now()
		if err := call(i); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
}

// lifecycle reports how long creating and starting a workspace take until it
// runs, in all and by step, in milliseconds.
func lifecycle(b *testing.B, c *client.Client) {
	ctx := b.Context()
	took := map[string]time.Duration{}
	settle := func(w agent.Workspace, err error) string {
		if err == nil {
			_, err = await(ctx, c, w.ID, func(agent.Step) {})
		}
		if err != nil {
			b.Fatal(err)
		}
		return w.ID
	}
	measure := func(what string, begin func() (agent.Workspace, error)) string {
		start := time.Now()
		id := settle(begin())
		took[what] += time.Since(start)
		steps, err := c.Steps(ctx, id)
		if err != nil {
			b.Fatal(err)
		}
		for _, s := range steps {
			took[what+"-"+s.Name] += s.EndedAt.Sub(s.StartedAt)
		}
		return id
	}
	for i := range b.N {
		id := measure("create", func() (agent.Workspace, error) {
			return c.CreateWorkspace(ctx, agent.NewWorkspace{Name: fmt.Sprintf("life-%d-%d", b.N, i)})
		})
		settle(c.StopWorkspace(ctx, id))
		measure("start", func() (agent.Workspace, error) { return c.StartWorkspace(ctx, id) })
		settle(c.StopWorkspace(ctx, id))
		if err := c.DeleteWorkspace(ctx, id); err != nil {
			b.Fatal(err)
		}
	}
	for name, d := range took {
		b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), "ms-"+name)
	}
}

// rss is a process's resident memory in megabytes.
func rss(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				b.Fatal(err)
			}
			return float64(kb) * 1024 / 1e6
		}
	}
	b.Fatal("no VmRSS")
	return 0
}
