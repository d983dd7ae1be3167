//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/guest"
)

// queueClients are where clients by AWS SDKs are.
const queueClients = "testdata/queue"

// TestQueue_Clients has the queue, without a VM, used by AWS SDKs for JavaScript
// and Go, of which the newer ones speak AWS JSON 1.0 and the older ones the query
// protocol.
func TestQueue_Clients(t *testing.T) {
	dir := t.TempDir()
	javascript := installQueueClients(t, dir)
	endpoint := startQueue(t, dir)
	for _, sdk := range []string{"sqs-json", "sqs-query"} {
		t.Run("JavaScript/"+sdk, func(t *testing.T) {
			runIn(t, javascript, "node", "--no-warnings", "client.mjs", sdk, endpoint)
		})
	}
	for _, module := range []string{"go.mod", "query.mod"} {
		t.Run("Go/"+module, func(t *testing.T) {
			client := filepath.Join(dir, module+".client")
			runIn(t, filepath.Join(queueClients, "go"), "go", "build", "-modfile="+module, "-o", client, ".")
			runIn(t, dir, client, endpoint)
		})
	}
}

// installQueueClients makes the clients by JavaScript in a directory, with their
// SDKs, and returns where.
func installQueueClients(t *testing.T, dir string) string {
	t.Helper()
	clients := filepath.Join(dir, "clients")
	if err := os.CopyFS(clients, os.DirFS(filepath.Join(queueClients, "js"))); err != nil {
		t.Fatal(err)
	}
	runIn(t, clients, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	return clients
}

// startQueue compiles the queue of this checkout and starts it, until the test
// ends. It returns its address once it listens.
func startQueue(t *testing.T, dir string) string {
	t.Helper()
	program := filepath.Join(dir, "rockpool-queue")
	if err := toolchain.Build(t.Context(), checkout, "./cmd/rockpool-queue", program, toolchain.Plain, t.Output()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()

	cmd := exec.Command(program, "-listen", address)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the queue: %v", err)
		}
	})
	eventually(t, 30*time.Second, "the queue listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return "http://" + address
}

// runIn runs a program in a directory; it must succeed.
func runIn(t *testing.T, dir string, argv ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, indent(string(out)))
	}
}

// TestQueue uses the VM's queue from programs in the VM. Nobody has started it.
func TestQueue(t *testing.T) {
	i := primary.up(t)
	dir, err := os.MkdirTemp(i.project, "queue-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // for the guest's user
		t.Fatal(err)
	}
	installQueueClients(t, dir)
	const unit = "rockpool-queue.service"
	if got := i.sh(t, "systemctl is-active "+unit+" || true"); got != "inactive" {
		t.Errorf("before anybody has used it, the queue is %s", got)
	}

	for n, sdk := range []string{"sqs-json", "sqs-query"} {
		host := []string{"127.0.0.1", "[::1]"}[n]
		i.sh(t, fmt.Sprintf("cd %s/%s/clients && node client.mjs %s http://%s:%d", guest.ShareDir, filepath.Base(dir), sdk, host, guest.PortQueue))
	}
	t.Logf("the queue's memory: %s bytes", i.sh(t, "systemctl show -P MemoryPeak "+unit))
	i.sh(t, "sudo systemctl stop "+unit)
	if got := i.sh(t, fmt.Sprintf("curl -s -o /dev/null -w '%%{http_code}' http://127.0.0.1:%d; systemctl is-active %s", guest.PortQueue, unit)); got != "403active" {
		t.Errorf("after a stop, the next one to ask has %s", got)
	}
	if got := i.sh(t, "ss -Hltn sport = :"+fmt.Sprint(guest.PortQueue)+" | awk '{print $4}' | sort | tr '\\n' ' '"); got != "127.0.0.1:9324 [::1]:9324 " && got != "127.0.0.1:9324 [::1]:9324" {
		t.Errorf("the queue listens at %s", got)
	}
}
