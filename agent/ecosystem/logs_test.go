package ecosystem

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// output is what is printed, for reading meanwhile.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (m *machine) log(name, content string) {
	m.t.Helper()
	path := filepath.Join(m.home(), "logs", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(content); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) logs(o LogOptions) string {
	m.t.Helper()
	var out output
	if err := m.Logs(m.t.Context(), &out, o); err != nil {
		m.t.Fatal(err)
	}
	return out.String()
}

func TestEcosystem_Logs(t *testing.T) {
	m := newMachine(t)
	if got := m.logs(LogOptions{Lines: 10}); got != "" {
		t.Errorf("before anything ran: %q", got)
	}
	m.log("api-out.log", "one\ntwo\nthree\nhalf")
	m.log("api-error.log", "oops\n")
	m.log("my-client-out-1.log", "served\n")
	m.log("pm2.log", "not a process's\n")

	if got, want := m.logs(LogOptions{Lines: 2}), "api       | oops\napi       | two\napi       | three\nmy-client | served\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := m.logs(LogOptions{Lines: 100, Process: "my-client"}), "my-client | served\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := m.logs(LogOptions{Lines: 1, Color: true}); !strings.Contains(got, "\x1b[36mapi       | \x1b[0mthree\n") || !strings.Contains(got, "\x1b[35mmy-client | \x1b[0mserved\n") {
		t.Errorf("got %q", got)
	}
	err := m.Logs(t.Context(), &output{}, LogOptions{Process: "worker"})
	if agent.ErrorCode(err) != agent.CodeNotFound || !strings.Contains(err.Error(), `["api" "my-client"]`) {
		t.Errorf("got %v", err)
	}
}

// TestEcosystem_Logs_ownFiles: the ecosystem says where its logs go.
func TestEcosystem_Logs_ownFiles(t *testing.T) {
	m := newMachine(t)
	m.state = "active"
	own := filepath.Join(m.Share, "api.log")
	m.write(own, "mine\n")
	m.list = `[{"name":"my api","pm2_env":{"pm_out_log_path":"` + own + `","pm_err_log_path":"` + filepath.Join(m.home(), "logs", "my-api-error.log") + `"}}]`
	m.log("my-api-error.log", "oops\n")
	if got, want := m.logs(LogOptions{Lines: 9}), "my api | oops\nmy api | mine\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEcosystem_Logs_follow(t *testing.T) {
	m := newMachine(t)
	m.log("api-out.log", "before\nha")
	ctx, cancel := context.WithCancel(t.Context())
	var out output
	ended := make(chan error, 1)
	go func() { ended <- m.Logs(ctx, &out, LogOptions{Lines: 1, Follow: true}) }()
	hear := func(words string) {
		t.Helper()
		for limit := time.Now().Add(30 * time.Second); !strings.Contains(out.String(), words); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("not heard: %q, but %q", words, out.String())
			}
		}
	}

	hear("api | before\n")
	m.log("api-out.log", "lf\n")
	hear("api | half\n")
	if err := os.Truncate(filepath.Join(m.home(), "logs", "api-out.log"), 0); err != nil { // pm2 flush
		t.Fatal(err)
	}
	time.Sleep(2 * logInterval)
	m.log("api-out.log", "after\n")
	hear("api | after\n")
	m.log("late-out.log", "here\n")
	hear("late | here\n")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if strings.Count(out.String(), "\n") != 4 {
		t.Errorf("got %q", out.String())
	}
}

// TestEcosystem_Logs_gone: nobody reads any more.
func TestEcosystem_Logs_gone(t *testing.T) {
	m := newMachine(t)
	if err := m.Logs(t.Context(), &output{}, LogOptions{Follow: true, Gone: func() bool { return true }}); err != nil {
		t.Error(err)
	}
}
