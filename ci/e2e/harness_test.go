//go:build e2e

// Package e2e tests the product the way a user meets it: through the mage
// targets, on real images and real VMs. The test instances share nothing with
// the user's own but the cache: they have their own state directory, names and
// ports.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/tart/standin"
)

// readyLimit is how long a guest may take to serve, on a busy machine without
// KVM. It fails the test; nothing waits for it to pass.
const readyLimit = 300 * time.Second

// longLimit is readyLimit for what takes such a machine many minutes: a pull of
// the workspace image (571 s measured), five workspaces at once, a build.
const longLimit = time.Hour

var (
	checkout string // root of the repository
	mageBin  string // the compiled magefile
	stateDir string // all test instances
)

// TestMain lets the test binary play Tart, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asTart {
		os.Exit(standin.Main(os.Args[2:], os.Getenv, os.Stdout, os.Stderr))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if checkout, err = filepath.Abs("../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}

	stateDir, err = os.MkdirTemp("", "rockpool-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}

	mageBin = filepath.Join(stateDir, "mage")
	compile := exec.Command("go", "tool", "mage", "-compile", mageBin)
	compile.Dir, compile.Stderr = checkout, os.Stderr
	if err := compile.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "compile the magefile:", err)
		return 1
	}

	code := m.Run()
	lastTarget := []string{"vm:destroy", "--yes"}
	if code != 0 {
		lastTarget = []string{"vm:stop"}
	}

	for _, i := range []*instance{primary, other} {
		if out, err := i.tryMage(context.Background(), lastTarget...); err != nil {
			fmt.Fprintln(os.Stderr, out, err)
			code = 1
		}
	}

	if code != 0 {
		fmt.Fprintln(os.Stderr, "instances, logs and state files are kept in", stateDir)
		return code
	}

	_ = os.RemoveAll(stateDir)
	return 0
}

// takesLong marks a test of minutes whose subject another one touches, or that
// seldom changes. -short leaves it out: every commit is tested without it, a
// release with it.
func takesLong(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes long: run without -short")
	}
}

// instance is one VM under test, addressed through mage.
type instance struct {
	name    string
	ssh     int
	web     int
	env     []string
	project string
	source  string // the checkout its targets run in, if it is another
	secret  string // the dashboard's password, once it was asked for

	way *http.Transport // to the dashboard's API in rounds, nil for the forwarded port

	once sync.Once
}

var (
	// primary is the instance most tests share.
	primary = &instance{name: "rockpool-test", ssh: 9022, web: 9080}
	// other is for tests that need different settings.
	other = &instance{name: "rockpool-other", ssh: 9122, web: 9180}
	// builds never starts; it is for tests of rootvm:build.
	builds = &instance{name: "rockpool-builds", ssh: 9522, web: 9580}
)

// up starts the instance, once for all tests that only look at it.
func (i *instance) up(t testing.TB) *instance {
	t.Helper()
	i.once.Do(func() { i.mage(t, "up") })
	if state := i.status(t); state.Status != vm.Ready {
		i.mage(t, "up")
	}
	return i
}

func (i *instance) environment() []string {
	if i.project == "" {
		i.project = filepath.Join(stateDir, i.name+"-project")
		_ = os.MkdirAll(i.project, 0o755)
	}
	return append(append(os.Environ(),
		"ROCKPOOL_STATE="+stateDir,
		"ROCKPOOL_PROJECT="+i.project,
		"ROOT_VM_NAME="+i.name,
		fmt.Sprintf("ROOT_VM_SSH_PORT=%d", i.ssh),
		fmt.Sprintf("ROOT_VM_WEB_PORT=%d", i.web),
		"ROOT_VM_MEMORY=2G", "ROOT_VM_CPUS=2", "ROOT_VM_DATA_SIZE=8G",
		fmt.Sprintf("SSH_WAIT_TIMEOUT=%d", int(readyLimit.Seconds())),
	), i.env...)
}

// tryMage runs a target and returns what it printed.
func (i *instance) tryMage(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, mageBin, args...)
	cmd.Dir, cmd.Env = cmp.Or(i.source, checkout), i.environment()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// with is the instance with more in its environment.
func (i *instance) with(env ...string) *instance {
	return &instance{name: i.name, ssh: i.ssh, web: i.web, project: i.project, env: slices.Concat(i.env, env)}
}

// mage runs a target that must succeed.
func (i *instance) mage(t testing.TB, args ...string) string {
	t.Helper()
	start := time.Now()
	out, err := i.tryMage(t.Context(), args...)
	t.Logf("mage %s (%.1f s)\n%s", strings.Join(args, " "), time.Since(start).Seconds(), indent(out))
	if err != nil {
		t.Fatalf("mage %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// fails runs a target that must fail with a line that contains every one of
// words, and returns what it printed.
func (i *instance) fails(t *testing.T, words []string, args ...string) string {
	t.Helper()
	out, err := i.tryMage(t.Context(), args...)
	t.Logf("mage %s\n%s", strings.Join(args, " "), indent(out))
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("mage %s: error %v, want an exit code above 0", strings.Join(args, " "), err)
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			t.Errorf("mage %s: the message lacks %q", strings.Join(args, " "), w)
		}
	}
	return out
}

// sh runs a script in the guest as admin; it must succeed.
func (i *instance) sh(t *testing.T, script string) string {
	t.Helper()
	out, err := i.trySh(t.Context(), script)
	if err != nil {
		t.Fatalf("in the guest: %v\n%s\n%s", err, indent(script), indent(out))
	}
	return strings.TrimSpace(out)
}

func (i *instance) trySh(ctx context.Context, script string) (string, error) {
	return i.tryMage(ctx, "vm:ssh", "--", "bash", "-ec", script)
}

func (i *instance) status(t testing.TB) vm.State {
	t.Helper()
	out, err := i.tryMage(t.Context(), "vm:status", "--json")
	if err != nil {
		t.Fatalf("vm:status: %v\n%s", err, out)
	}
	var s vm.State
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("vm:status --json printed %q: %v", out, err)
	}
	return s
}

func (i *instance) dir() string { return filepath.Join(stateDir, "instances", i.name) }

func (i *instance) password(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(i.mage(t, "vm:password"))
}

// login is the password, asked of the guest once: the data disk keeps it.
func (i *instance) login(t *testing.T) string {
	t.Helper()
	if i.secret == "" {
		i.secret = i.password(t)
	}
	return i.secret
}

// get asks one of the guest's servers: 0 dashboard, 1 IDE, 2 previews.
func (i *instance) get(t *testing.T, server int, path, password string) (*http.Response, string) {
	t.Helper()
	return i.exchange(t, server, http.MethodGet, path, password)
}

// exchange sends one of the guest's servers a request without a body.
func (i *instance) exchange(t *testing.T, server int, method, path, password string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("http://127.0.0.1:%d%s", i.web+server, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	if password != "" {
		req.SetBasicAuth("admin", password)
	}
	res, err := noRedirects.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

var noRedirects = &http.Client{
	Timeout:       30 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// eventually asks again until f is true; a guest that never gets there fails
// the test at the limit.
func eventually(t *testing.T, limit time.Duration, what string, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s", what, limit)
		case <-tick.C:
		}
	}
}

// healthy says whether the stack behind a port serves.
func healthy(port int) bool {
	c := http.Client{Timeout: 5 * time.Second}
	res, err := c.Get(fmt.Sprintf("http://127.0.0.1:%d/api/health", port))
	if err != nil {
		return false
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return err == nil && res.StatusCode == http.StatusOK && string(b) == "OK"
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n    ")
}
