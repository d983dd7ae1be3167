//go:build e2e

// Package browser holds the browser tests, which are a Node.js project, and
// runs those that need no container: against the agent with RUNTIME=stub and
// the VM's Caddyfile, on this machine.
package browser

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/ci/browser"
	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/templates"
)

const password = "a-password-of-the-tests"

// TestStub runs the suite. Set E2E_BROWSER_ARGS to give Playwright arguments,
// such as the name of a test file.
func TestStub(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}

	artifacts := filepath.Join(root, "dist", "e2e", "stub")
	s := newStack(t, root)
	suite := &browser.Suite{
		Dir: ".", Artifacts: artifacts, Mode: "stub",
		Dashboard: s.address(0), IDE: s.address(1), Preview: s.address(2), Password: password,
		Machine: browser.Machine{RestartAgent: s.restartAgent, Pace: s.pace},
		Args:    strings.Fields(os.Getenv("E2E_BROWSER_ARGS")),
		Out:     os.Stdout,
	}
	if err := suite.Run(t.Context()); err != nil {
		for name, log := range map[string]*bytes.Buffer{"agent.log": &s.agentLog.Buffer, "caddy.log": &s.caddyLog.Buffer} {
			_ = os.WriteFile(filepath.Join(artifacts, name), log.Bytes(), 0o644)
		}
		t.Fatal(err)
	}
}

// stack is the agent and Caddy as they are in the VM, on free ports.
type stack struct {
	dir      string
	ports    [3]int
	agent    *exec.Cmd
	delay    string   // of each step of the stub
	env      []string // of the agent, beside what every stack has
	agentLog log
	caddyLog log
}

// log may be written by a process's copier and read after its end.
type log struct{ bytes.Buffer }

func (s *stack) address(server int) string {
	return fmt.Sprintf("http://127.0.0.1:%d", s.ports[server])
}

func newStack(t testing.TB, root string, env ...string) *stack {
	t.Helper()
	s := &stack{dir: t.TempDir(), delay: "0s", env: env}
	release := s.holdPorts(t)
	compile := exec.Command("go", "build", "-trimpath", "-tags", toolchain.PodmanTags, "-o", filepath.Join(s.dir, "rockpool-agent"), "./cmd/rockpool-agent")
	compile.Dir = root
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("compile the agent: %v\n%s", err, out)
	}

	config := fmt.Sprintf(`{"version":1,"ports":{"dashboard":%d,"ide":%d,"preview":%d}}`, s.ports[0], s.ports[1], s.ports[2])
	if err := os.WriteFile(filepath.Join(s.dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, filepath.Base(guest.PasswordHashFile)), hash, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.startAgent(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := s.stopAgent(); err != nil {
			t.Error(err)
		}
	})

	s.startCaddy(t, release)
	if err := s.serves(t.Context()); err != nil {
		t.Fatalf("%v\nagent: %s\nCaddy: %s", err, s.agentLog.String(), s.caddyLog.String())
	}
	return s
}

// holdPorts takes Caddy's ports. Nobody else gets them until it is released,
// just before Caddy starts: what comes before may take minutes.
func (s *stack) holdPorts(t testing.TB) (release func()) {
	t.Helper()
	var held []net.Listener
	release = func() {
		for _, l := range held {
			_ = l.Close()
		}
	}
	t.Cleanup(release)
	for i := range s.ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held, s.ports[i] = append(held, l), l.Addr().(*net.TCPAddr).Port
	}
	return release
}

func (s *stack) startAgent() error {
	s.agent = exec.Command(filepath.Join(s.dir, "rockpool-agent"), "serve")
	s.agent.Stdout, s.agent.Stderr = &s.agentLog, &s.agentLog
	s.agent.Env = append(os.Environ(), "RUNTIME=stub", "ROCKPOOL_STUB_DELAY="+s.delay,
		"ROCKPOOL_DATABASE="+filepath.Join(s.dir, "rockpool.db"), "ROCKPOOL_SOCKET="+filepath.Join(s.dir, "agent.sock"),
		"ROCKPOOL_SETUP_DIR="+s.dir, "ROCKPOOL_CHANNEL="+filepath.Join(s.dir, "no-channel"),
		"ROCKPOOL_PROBE_URL="+s.address(0)+"/api/health", "GITHUB_API_URL=http://127.0.0.1:9/")
	s.agent.Env = append(s.agent.Env, s.env...)
	return s.agent.Start()
}

func (s *stack) stopAgent() error {
	if err := s.agent.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.agent.Wait()
}

func (s *stack) restartAgent(ctx context.Context) error {
	if err := s.stopAgent(); err != nil {
		return fmt.Errorf("stop the agent: %w", err)
	}
	if err := s.startAgent(); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	return s.serves(ctx)
}

func (s *stack) pace(ctx context.Context, delay string) error {
	s.delay = delay
	return s.restartAgent(ctx)
}

// startCaddy runs it with the VM's own Caddyfile, on the ports that release
// lets go.
func (s *stack) startCaddy(t testing.TB, release func()) {
	t.Helper()
	p := templates.Defaults()
	p.RunDir = s.dir
	for i := range p.Servers {
		p.Servers[i].Port = s.ports[i]
	}

	files, err := templates.Render(p)
	if err != nil {
		t.Fatal(err)
	}

	config := filepath.Join(s.dir, "Caddyfile")
	for _, f := range files {
		if f.Path != "/etc/rockpool/Caddyfile" {
			continue
		}
		if err := os.WriteFile(config, f.Content, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	tools := &bootstrap.Tools{Dir: os.Getenv("ROCKPOOL_TEST_TOOLS")}
	caddy := tools.Command(context.Background(), "caddy", "run", "--config", config, "--adapter", "caddyfile")
	caddy.Stdout, caddy.Stderr = &s.caddyLog, &s.caddyLog
	caddy.Env = append(os.Environ(), "HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir, "XDG_DATA_HOME="+s.dir)

	release()
	if err := caddy.Start(); err != nil {
		t.Fatalf("start Caddy: %v", err)
	}

	t.Cleanup(func() {
		_ = caddy.Process.Signal(syscall.SIGTERM)
		_ = caddy.Wait()
	})
}

// serves waits until a request goes all the way, and every server of Caddy
// answers: it opens their ports in no order.
func (s *stack) serves(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the stack does not serve: %w", err)
		}
	}
}

// ask expects the agent behind the first server, and of the others what only
// our Caddy says: that it wants a password.
func (s *stack) ask(ctx context.Context) error {
	for server := range s.ports {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.address(server)+"/api/health", nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if server == 0 && string(b) != "OK" || server > 0 && res.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("%s answers %s, %q", r.URL, res.Status, b)
		}
	}
	return nil
}
