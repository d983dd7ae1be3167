//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/ci/browser"
	"github.com/rockpool/rootvm/vm"
)

// hostInGuest is the host's loopback interface as seen from the guest: QEMU's
// user network.
const hostInGuest = "10.0.2.2"

// TestBrowser runs the browser suite against the VM; with -short only what the
// stub cannot stand in for. E2E_BROWSER_ARGS are further arguments of
// Playwright, such as a file's name.
func TestBrowser(t *testing.T) {
	args := strings.Fields(os.Getenv("E2E_BROWSER_ARGS"))
	if testing.Short() {
		args = append(args, "--grep=@vm", "--grep-invert=@long")
	}

	artifacts := filepath.Join(checkout, "dist", "e2e", "vm")
	t.Cleanup(func() {
		if t.Failed() {
			keepLogs(t, artifacts)
		}
	})

	primary.up(t)
	useRepositories(t, gitServer(t, "team/hello", "# Hello from the test", ""))
	address := func(server int) string { return fmt.Sprintf("http://127.0.0.1:%d", primary.web+server) }
	suite := &browser.Suite{
		Dir: filepath.Join(checkout, "ci", "e2e", "browser"), Artifacts: artifacts, Mode: "vm",
		Dashboard: address(0), IDE: address(1), Preview: address(2), Password: primary.password(t),
		Machine: browser.Machine{RestartAgent: restartAgent, Reboot: reboot, Exec: primary.trySh},
		Args:    args,
		Out:     os.Stdout,
	}
	if err := suite.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func restartAgent(ctx context.Context) error {
	if out, err := primary.trySh(ctx, "sudo systemctl restart rockpool-agent"); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return serves(ctx)
}

func reboot(ctx context.Context) error {
	for _, target := range []string{"down", "up"} {
		if out, err := primary.tryMage(ctx, target); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
	}
	return serves(ctx)
}

// serves waits until the stack answers.
func serves(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !healthy(primary.web) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the stack does not serve: %w", ctx.Err())
		}
	}
	return nil
}

// keepLogs copies what tells why a test failed.
func keepLogs(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Error(err)
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), readyLimit)
	defer cancel()
	for _, unit := range []string{"rockpool-agent", "rockpool-caddy"} {
		out, err := primary.trySh(ctx, "sudo journalctl --no-pager -o short-precise -u "+unit)
		if err != nil {
			out += "\n" + err.Error()
		}
		if err := os.WriteFile(filepath.Join(dir, unit+".log"), []byte(out), 0o644); err != nil {
			t.Error(err)
		}
	}

	serial, err := os.ReadFile(filepath.Join(primary.dir(), vm.SerialLog))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "serial.log"), serial, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

// useRepositories makes the agent take owner/repository from the host's port,
// and lets workspaces reach it, until the next boot.
func useRepositories(t *testing.T, port int) {
	t.Helper()
	primary.sh(t, fmt.Sprintf(`
		sudo mkdir -p /run/systemd/system/rockpool-agent.service.d
		printf '[Service]\nEnvironment=GIT_BASE_URL=http://%[1]s:%[2]d\n' | sudo tee /run/systemd/system/rockpool-agent.service.d/test.conf
		sudo systemctl daemon-reload
		sudo systemctl restart rockpool-agent`, hostInGuest, port))
	primary.allow(t, port)
	if err := serves(t.Context()); err != nil {
		t.Fatal(err)
	}
}
