//go:build e2e

package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/ci/e2e/model"
)

// TestRounds_Stub kills the agent alone, on a stub in the place of Podman, whose
// containers go with it. It takes no VM, so there are many rounds, and operations
// are as dense as the API takes them.
func TestRounds_Stub(t *testing.T) {
	takesLong(t)
	s, number := seed(t), roundsWanted(t, 100)
	a := newStubAgent(t)
	r := &round{t: t, i: &instance{name: "stub", way: a.way()}}
	for n, name := range agent.PreferenceNames() {
		r.users = append(r.users, &user{
			Client: model.NewClient(fmt.Sprintf("rounds-%c", 'a'+n), name), i: r.i, pause: 20 * time.Millisecond,
			never: []model.Kind{model.Write, model.Edit, model.Save}, // files go with the stub
		})
	}

	acknowledged := 0
	for r.number = range number {
		r.random = rand.New(rand.NewPCG(s, uint64(r.number)))
		ctx, finish := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for n, u := range r.users {
			u.Begin(s, r.number)
			u.random = rand.New(rand.NewPCG(s+uint64(n)+1, uint64(r.number)))
			wg.Go(func() { u.work(ctx) })
		}
		pause(ctx, time.Duration(r.random.Int64N(int64(1500*time.Millisecond))))
		asked := r.asked()
		a.kill()
		a.start()
		pause(ctx, time.Duration(r.random.Int64N(int64(500*time.Millisecond))))
		finish()
		wg.Wait()

		for _, u := range r.users {
			acknowledged += len(u.Acknowledged())
			for _, wrong := range u.faults {
				t.Error(wrong)
			}
		}
		a.compare(r)
		if t.Failed() {
			for _, u := range r.users {
				t.Logf("to %s was acknowledged: %s", u.Name, strings.Join(u.Acknowledged(), "; "))
			}
			t.Fatalf("round %d of seed %d failed; when the agent was killed %s\n%s", r.number, s, asked, a.said.String())
		}
	}
	t.Logf("%d operations were acknowledged in %d rounds", acknowledged, number)
	if acknowledged < number {
		t.Error("so few prove nothing")
	}
}

// stubAgent is an agent with the stub, which is killed and started again.
type stubAgent struct {
	t       *testing.T
	dir     string
	process *exec.Cmd
	said    console
}

func newStubAgent(t *testing.T) *stubAgent {
	a := &stubAgent{t: t, dir: t.TempDir()}
	compile := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", toolchain.Tags, "-o", filepath.Join(a.dir, "rockpool-agent"), "./cmd/rockpool-agent")
	compile.Dir = checkout
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	a.start()
	t.Cleanup(a.kill)
	return a
}

func (a *stubAgent) start() {
	a.t.Helper()
	a.process = exec.Command(filepath.Join(a.dir, "rockpool-agent"), "serve")
	a.process.Stdout, a.process.Stderr = &a.said, &a.said
	a.process.Env = append(os.Environ(), "RUNTIME=stub", "ROCKPOOL_STUB_DELAY=5ms", "ROCKPOOL_STUB_PAGES=false",
		"ROCKPOOL_DATABASE="+filepath.Join(a.dir, "rockpool.db"), "ROCKPOOL_SOCKET="+filepath.Join(a.dir, "agent.sock"),
		"ROCKPOOL_SETUP_DIR="+a.dir, "ROCKPOOL_CHANNEL="+filepath.Join(a.dir, "no-channel"))
	if err := a.process.Start(); err != nil {
		a.t.Fatal(err)
	}
}

func (a *stubAgent) kill() {
	_ = a.process.Process.Kill() // it may have ended by itself, which what is asked next shows
	_ = a.process.Wait()
}

// way leads to the agent's socket.
func (a *stubAgent) way() *http.Transport {
	return &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(a.dir, "agent.sock"))
	}}
}

// compare waits until nothing is on its way, and compares what clients see, and
// the database, with what was acknowledged.
func (a *stubAgent) compare(r *round) {
	t := a.t
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(a.dir, "rockpool.db")+"?mode=ro&_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()

	var seen observed
	eventually(t, time.Minute, "nothing on its way", func() bool {
		if seen, err = r.look(t.Context()); err != nil {
			return false
		}
		jobs := -1
		if err := db.QueryRow("SELECT count(*) FROM job WHERE state <> 'parked'").Scan(&jobs); err != nil {
			t.Fatal(err)
		}
		return jobs == 0 && !slices.ContainsFunc(seen.workspaces, func(w remote) bool { return w.Status == "creating" || w.Status == "stopping" })
	})

	for _, u := range r.users {
		for _, wrong := range u.Compare(seen.of(u.Client)) {
			t.Error(wrong)
		}
	}
	var integrity string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&integrity); err != nil || integrity != "ok" {
		t.Errorf("the database: %q, %v", integrity, err)
	}
	var rows int
	if err := db.QueryRow("SELECT count(*) FROM pragma_foreign_key_check").Scan(&rows); err != nil || rows != 0 {
		t.Errorf("the database: %d rows of nobody's, %v", rows, err)
	}
}
