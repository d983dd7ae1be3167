package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
	"github.com/rockpool/rootvm/agent/client"
	"github.com/rockpool/rootvm/agent/http"
	"github.com/rockpool/rootvm/agent/metrics"
	"github.com/rockpool/rootvm/agent/stub"
)

// command runs the program in this process and returns what it said.
func (p place) command(t *testing.T, stdin string, args ...string) (code int, out, stderr string) {
	t.Helper()
	var o, e buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &o, &e, p.env)
	return code, o.String(), e.String()
}

// want fails unless the command ends with code and says all of texts.
func (p place) want(t *testing.T, code int, args string, texts ...string) string {
	t.Helper()
	got, out, stderr := p.command(t, "s3cr3t\n", strings.Fields(args)...)
	for _, text := range texts {
		if got != code || !strings.Contains(out+stderr, text) {
			t.Errorf("%s: %d\n%s%s\nwant %d with %q", args, got, out, stderr, code, text)
		}
	}
	return out
}

// TestWorkspaces goes through a workspace's life on the command line, with
// the daemon, its database and the stub.
func TestWorkspaces(t *testing.T) {
	p := newPlace(t)
	var stderr, log buffer
	stop := p.startLogging(t, &log, &stderr)
	p.want(t, exitOK, "ws list", "no workspaces yet")
	p.want(t, exitOK, "ws create first -repository me/x -token-stdin", "Cloning the repository", "first is running", "http://localhost:8081/workspace/first/")
	p.want(t, exitConflict, "ws create first", `Workspace "first" already exists`)
	p.want(t, exitUsage, "ws create x", "name must be 3 to 63 characters")
	p.want(t, exitOK, "ws create --json -description d second", `"status": "running"`)
	p.want(t, exitOK, "ws list", "first", "second", "running")
	var list []api.WorkspaceLine
	if err := json.Unmarshal([]byte(p.want(t, exitOK, "ws list -json", "[")), &list); err != nil || len(list) != 2 || list[0].Name != "second" || list[0].Description != "d" || list[1].RepositoryID != "me/x" {
		t.Errorf("list %+v, %v", list, err)
	}
	p.want(t, exitOK, "ws logs first -n 5", "")
	p.want(t, exitOK, "ws logs first -steps", "create Waiting for the IDE: done")
	p.want(t, exitOK, "ws open first", "http://localhost:8081/workspace/first/\n")
	p.want(t, exitOK, "ws limits first", "memory  4.0 GiB  256 MiB  4.0 GiB  8.0 GiB", "disk    9.3 GiB  0 MiB    9.3 GiB  37.3 GiB")
	p.want(t, exitOK, "ws limits first --memory 6G", "memory  6.0 GiB")
	p.want(t, exitUsage, "ws limits first --disk 41GB", "diskBytes must be 0, for the default, or from 1.0 GiB to 37.3 GiB, which is the size of the disk for workspaces")
	p.want(t, exitOK, "ws limits first --disk 5G", "disk    5.0 GiB  0 MiB    9.3 GiB  37.3 GiB")
	p.want(t, exitOK, "ws disk", "first     0 MiB  5.0 GiB", "the rest", "in all    0 MiB  37.3 GiB")
	p.want(t, exitOK, "ws disk -json", `"name": "first"`, `"limit": 5368709120`, `"images": []`)
	p.want(t, exitOK, "ws limits first --memory default --disk default -json", `"memoryBytes": 0`, `"diskBytes": 0`)
	p.want(t, exitUsage, "ws limits first --memory much", `"much" is no size: write a number with a unit, such as 512M or 6G, or default`)
	p.want(t, exitUsage, "ws limits first --memory 9G", "memoryBytes must be 0, for the default, or from 256 MiB to 8.0 GiB")
	p.want(t, exitNotFound, "ws limits none", `Workspace "none" not found`)
	p.want(t, exitOK, "ws image first", "image   rockpool-workspace\ndigest  "+stub.Digest)
	p.want(t, exitConflict, "ws image first --move-on", "There is no other image")
	p.want(t, exitConflict, "ws rm first", "Stop it first.")
	p.want(t, exitOK, "ws stop first", "first is stopped")
	p.want(t, exitConflict, "ws stop first", `Cannot transition from "stopped" to "stopping"`)
	p.want(t, exitOK, "ws start first -no-wait", "first is creating")
	p.want(t, exitNotFound, "ws start none", `Workspace "none" not found`)
	p.want(t, exitOK, "ws stop second", "second is stopped")
	p.want(t, exitOK, "ws rm second", "second is deleted")
	p.want(t, exitNotFound, "ws rm second", "not found")
	p.want(t, exitFailure, "doctor", "agent      answers", "fail  caddy", "is sound")
	p.want(t, exitFailure, "doctor -json", `"part": "database"`)
	metrics := p.get(t, "/api/metrics")
	for _, want := range []string{`rockpool_workspaces{status="error"} 0`, `rockpool_job_seconds_count{kind="create"} 2`, `rockpool_job_seconds_count{kind="delete"} 1`, `rockpool_jobs{kind="stop",state="parked"} 0`, "rockpool_runtime_up 1", "go_goroutines", "process_resident_memory_bytes", `route="/api/workspaces/{id}"`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if code := stop(); code != exitOK {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
	p.nowhere(t, "s3cr3t", log.String())
}

// hooked runs the daemon's API and jobs over a stub with a hook until the test
// ends.
func (p place) hooked(t *testing.T, hook stub.Hook) {
	t.Helper()
	var out, stderr buffer
	d, err := newDaemon(p.options(t), streams{out: &out, err: &stderr})
	if err != nil {
		t.Fatal(err)
	}
	if d.db, err = d.open(t.Context(), d.o.database); err != nil {
		t.Fatal(err)
	}
	d.engine = stub.New(stub.Options{Hook: hook})
	if d.plane, err = newPlane(t.Context(), d.db, d.engine, d.o, d.log); err != nil {
		t.Fatal(err)
	}
	d.metrics = metrics.New(counted{d.db, d.plane}, version, d.log)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	server, err := d.server(ctx)
	if err != nil {
		t.Fatal(err)
	}
	l, err := http.Listen(ctx, d.o.socket)
	if err != nil {
		t.Fatal(err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.plane.Run(ctx) })
	g.Go(func() error { return server.Serve(ctx, l, drainTime) })
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(g.Wait(), d.db.Close()); err != nil {
			t.Errorf("end: %v", err)
		}
	})
}

// TestWorkspaces/deleteInError: a workspace in state error keeps that, and
// what it says, while it is deleted: only what is new is about the deletion.
func TestWorkspaces_deleteInError(t *testing.T) {
	p := newPlace(t)
	removals := 0
	p.hooked(t, func(ctx context.Context, c stub.Call) error {
		if c.Op != stub.OpRemove || c.After {
			return nil
		}
		removals++
		// Long enough for the command to see the row as it was before.
		if err := pause(ctx, stub.Call{Op: stub.OpStop}, 200*time.Millisecond); err != nil || removals == 3 {
			return err
		}
		return agent.Errorf(agent.CodeValidation, "reason %d", removals) // a code that is final
	})
	p.want(t, exitOK, "ws create first", "first is running")
	p.want(t, exitOK, "ws stop first", "first is stopped")
	p.want(t, exitFailure, "ws rm first", "workspace first could not be deleted: reason 1")
	p.want(t, exitOK, "ws list", "error", "reason 1")
	p.want(t, exitFailure, "ws rm first", "workspace first could not be deleted: reason 2")
	p.want(t, exitOK, "ws rm first", "first is deleted")
	p.want(t, exitOK, "ws list", "no workspaces yet")
}

// nowhere fails when a secret is in a log or in any file of the place.
func (p place) nowhere(t *testing.T, secret, log string) {
	t.Helper()
	if strings.Contains(log, secret) {
		t.Errorf("the log has the secret: %s", log)
	}
	err := filepath.WalkDir(p.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("%s has the secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestServe_manyWorkspaces: twenty at once all come to run, whatever the
// limit of jobs, and the list pages through them.
func TestServe_manyWorkspaces(t *testing.T) {
	const n = 20
	p := newPlace(t)
	var stderr buffer
	stop := p.start(t, &stderr)
	c := client.Unix(p.path("run/agent.sock"))
	g, ctx := errgroup.WithContext(t.Context())
	for i := range n {
		g.Go(func() error {
			w, err := c.CreateWorkspace(ctx, agent.NewWorkspace{Name: fmt.Sprintf("ws-%02d", i)})
			if err != nil {
				return err
			}
			rested, err := await(ctx, c, w.ID, func(agent.Step) {})
			if err == nil && (rested == nil || rested.Status != agent.StatusRunning) {
				err = fmt.Errorf("%s came to rest as %+v", w.Name, rested)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for after := (agent.Cursor{}); ; {
		page, next, err := c.ListWorkspaces(t.Context(), after, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range page {
			seen[w.Address] = true
		}
		if next.ID == "" {
			break
		}
		after = next
	}
	if len(seen) != n {
		t.Errorf("%d addresses of %d workspaces", len(seen), n)
	}
	if code := stop(); code != exitOK {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
}

// TestServe_again: what ran runs again when the agent starts the next time.
func TestServe_again(t *testing.T) {
	p := newPlace(t)
	var stderr buffer
	stop := p.start(t, &stderr)
	p.want(t, exitOK, "ws create first", "first is running")
	if code := stop(); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	defer p.start(t, &stderr)()
	c := client.Unix(p.path("run/agent.sock"))
	w, err := c.WorkspaceByName(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	rested, err := watch(t.Context(), c, w.ID, func(agent.Step) {}, func(w agent.Workspace) bool {
		s, err := c.Runtime().Status(t.Context(), w.ID)
		return err == nil && s == agent.ContainerRunning && w.Status == agent.StatusRunning
	})
	if err != nil || rested == nil {
		t.Errorf("does not run again: %+v, %v", rested, err)
	}
}

// TestServe_shutdown: when the host asks for the machine's end, workspaces
// are stopped, and their rows say that they are to run again.
func TestServe_shutdown(t *testing.T) {
	p := newPlace(t)
	if err := syscall.Mkfifo(p.path("none"), 0o600); err != nil { // reads what is written, as the port does
		t.Fatal(err)
	}
	var stderr buffer
	defer p.start(t, &stderr)()
	p.want(t, exitOK, "ws create first", "first is running")
	port, err := os.OpenFile(p.path("none"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	if _, err := port.WriteString("\n" + `{"request":"shutdown"}` + "\n"); err != nil {
		t.Fatal(err)
	}
	c := client.Unix(p.path("run/agent.sock"))
	w, err := c.WorkspaceByName(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	limit := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := c.Runtime().Status(t.Context(), w.ID)
		if err != nil {
			t.Fatal(err)
		}
		if status == agent.ContainerStopped {
			break
		}
		select {
		case <-limit:
			t.Fatalf("the container is %s", status)
		case <-tick.C:
		}
	}
	if w, err := c.Workspace(t.Context(), w.ID); err != nil || w.Status != agent.StatusRunning {
		t.Errorf("the row says %s, %v", w.Status, err)
	}
}

func TestBackup(t *testing.T) {
	p := newPlace(t)
	var stderr buffer
	stop := p.start(t, &stderr)
	p.want(t, exitOK, "ws create kept", "kept is running")
	file := p.path("copy.db")
	p.want(t, exitOK, "backup "+file, "is backed up to")
	p.want(t, exitFailure, "backup "+file, "exists")
	p.want(t, exitOK, "ws create lost", "lost is running")
	p.want(t, exitFailure, "restore "+file, "another agent uses this database", "systemctl stop rockpool-agent")
	p.want(t, exitOK, "ws list", "lost")
	if code := stop(); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	for name, content := range map[string]string{"empty": "", "no database": "garbage that is no database"} {
		bad := p.path("bad.db")
		if err := os.WriteFile(bad, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := p.command(t, "", "restore", bad); code != exitFailure || !strings.Contains(stderr, "backup") {
			t.Errorf("%s: %d %s", name, code, stderr)
		}
	}
	out := p.want(t, exitOK, "restore "+file, "is restored; the old one is kept at")
	_, rest, _ := strings.Cut(out, "kept at ")
	old, _, _ := strings.Cut(rest, ". ")
	if st, err := os.Stat(old); err != nil || st.Size() == 0 {
		t.Errorf("the old database is not at %q: %v", old, err)
	}
	left, err := filepath.Glob(p.path("state/.*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	defer p.start(t, &stderr)()
	if got := p.want(t, exitOK, "ws list", "kept"); strings.Contains(got, "lost") {
		t.Errorf("the backup was not restored: %s", got)
	}
}

// TestBackup_stream: through standard output and input, as ssh does it.
func TestBackup_stream(t *testing.T) {
	p := newPlace(t)
	var stderr buffer
	if code := p.start(t, &stderr)(); code != exitOK {
		t.Fatal(stderr.String())
	}
	code, out, errs := p.command(t, "", "backup", "-")
	if code != exitOK || !strings.HasPrefix(out, "SQLite format 3\x00") {
		t.Fatalf("backup: %d %q %s", code, out[:min(len(out), 20)], errs)
	}
	if code, said, errs := p.command(t, out, "restore", "-"); code != exitOK || !strings.Contains(said, "is restored") {
		t.Errorf("restore: %d %s %s", code, said, errs)
	}
}
