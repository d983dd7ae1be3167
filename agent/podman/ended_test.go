//go:build remote

package podman

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// orphaned is Podman's service with a container whose monitor was killed: it
// hears of the container's end only when it is told to stop it.
type orphaned struct {
	mu    sync.Mutex
	state string
	pid   int
	asked []string

	*monitor // one that lives, and tells when it is waited for
}

// monitor is what a container's monitor tells Podman at its end.
type monitor struct {
	oom  bool
	code int
}

// began is when containers of these tests began. They last a minute.
var began = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func (o *orphaned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	refuse := func(text string) {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, `{"cause":%q,"message":%q,"response":500}`, text, text)
	}

	action := path.Base(r.URL.Path)
	switch {
	case action == "_ping":
		w.Header().Set("Libpod-API-Version", "5.4.2")
	case strings.HasSuffix(r.URL.Path, "/containers/json"):
		fmt.Fprintf(w, `[{"Names":[%q],"Labels":{%q:%q,%q:"0"},"State":%q,"Pid":%d}]`, containerName(id), labelID, id, labelSlot, o.state, o.pid)
	case strings.HasSuffix(r.URL.Path, "/volumes/json"):
		fmt.Fprint(w, `[]`)
	case action == "json":
		state := fmt.Sprintf(`"Status":%q,"Pid":%d,"StartedAt":%q`, o.state, o.pid, began.Format(time.RFC3339))
		if o.monitor != nil && o.state == "exited" {
			state += fmt.Sprintf(`,"FinishedAt":%q,"OOMKilled":%t,"ExitCode":%d`, began.Add(time.Minute).Format(time.RFC3339), o.oom, o.code)
		}
		fmt.Fprintf(w, `{"Config":{"Labels":{%q:%q,%q:"example/app"}},"State":{%s}}`, labelID, id, labelImage, state)
	case action == "wait" && o.monitor != nil:
		o.state, o.pid = "exited", 0
		fmt.Fprint(w, o.code)
	case action == "wait":
		refuse("no exit code for the container")
	case action == "stop":
		o.asked = append(o.asked, action)
		o.state, o.pid = "stopped", 0
		refuse("container conmon exited prematurely, exit code could not be retrieved: conmon process killed")
	case action == "start":
		o.asked = append(o.asked, action)
		if o.state != "running" { // one that runs is started already
			o.state, o.pid = "running", os.Getpid()
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse("not expected: " + r.URL.Path)
	}
}

// orphan is an engine with a container whose monitor was killed, and what ends
// the container's first process.
func orphan(t *testing.T) (e *Engine, o *orphaned, end func()) {
	t.Helper()
	first := exec.Command("sleep", "1000")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		_ = first.Process.Kill()
		_ = first.Wait()
	})
	t.Cleanup(end)

	o = &orphaned{state: "running", pid: first.Process.Pid}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(o)
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	files := &memory{files: []agent.FilesUsage{{Files: agent.Files{ID: id, Image: "sha256:1"}}}}
	return &Engine{Socket: socket, Storage: files, Now: time.Now, Log: slog.New(slog.DiscardHandler)}, o, end
}

// TestEngine_MonitorKilled: a container whose monitor was killed runs as long as
// its first process does. Then it has ended, whatever Podman says, can be waited
// for, and is cleaned up after before it is started again.
func TestEngine_MonitorKilled(t *testing.T) {
	e, o, end := orphan(t)
	ctx := t.Context()
	wantStatus := func(want agent.ContainerStatus) {
		t.Helper()
		if got, err := e.Status(ctx, id); err != nil || got != want {
			t.Errorf("status %s, %v, want %s", got, err, want)
		}
		if refs, err := e.List(ctx); err != nil || len(refs) != 1 || refs[0].Status != want {
			t.Errorf("listed %+v, %v, want %s", refs, err, want)
		}
	}

	wantStatus(agent.ContainerRunning)
	waited := make(chan error, 1)
	go func() { waited <- e.Wait(ctx, id) }()
	end()
	if err := <-waited; err != nil {
		t.Errorf("wait: %v", err)
	}
	wantStatus(agent.ContainerStopped)
	if err := e.Start(ctx, id); err != nil {
		t.Errorf("start: %v", err)
	}
	wantStatus(agent.ContainerRunning)
	if want := []string{"stop", "start"}; !slices.Equal(o.asked, want) {
		t.Errorf("asked for %q, want %q", o.asked, want)
	}
}

// TestEngine_StopWithoutMonitor: that nobody knows the exit code of a container
// without a monitor does not make its stop fail.
func TestEngine_StopWithoutMonitor(t *testing.T) {
	for name, alive := range map[string]bool{"running": true, "ended unseen": false} {
		t.Run(name, func(t *testing.T) {
			e, o, end := orphan(t)
			if !alive {
				end()
			}
			if err := e.Stop(t.Context(), id, time.Second); err != nil {
				t.Errorf("stop: %v", err)
			}
			if want := []string{"stop"}; !slices.Equal(o.asked, want) || o.state != "stopped" {
				t.Errorf("asked for %q, it is %s", o.asked, o.state)
			}
		})
	}
}
