//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rockpool/rootvm/host"
)

// Ports of the host that lead to the sample's processes.
const (
	devAPI    = 9085
	devClient = 9086
)

// devAnswer is what the sample's API says.
type devAnswer struct {
	Greeting string `json:"greeting"`
	Version  int    `json:"version"`
	PID      int    `json:"pid"`
}

// TestDev runs the sample of testdata/ecosystem from the host: start, a save,
// logs, stop.
func TestDev(t *testing.T) {
	i := primary.up(t)
	project := filepath.Join(i.project, "a shop")
	if err := os.CopyFS(project, os.DirFS("testdata/ecosystem")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = i.tryMage(context.Background(), "dev:stop")
		_ = os.RemoveAll(project)
	})
	testShells(t, i)

	i.fails(t, []string{"nowhere/missing.mjs"}, "dev:start", "--ecosystem", "a shop/broken.config.cjs")
	wantNothing(t, i)
	start := []string{"dev:start", "--ecosystem", "a shop/ecosystem.config.cjs", "--env-file", filepath.Join(project, "variables.env"),
		"--port", fmt.Sprintf("api=%d:3900", devAPI), "--port", fmt.Sprintf("client=%d:3901", devClient)}
	began := time.Now()
	i.mage(t, start...)
	first := awaitVersion(t, 1)
	t.Logf("from dev:start to the first answer: %.1f s", time.Since(began).Seconds())
	if first.Greeting != "hello = hello" {
		t.Errorf("the API has GREETING=%q", first.Greeting)
	}
	for path, want := range map[string]string{"": "<title>client</title>", "api": `"version":1`} {
		if got, err := ask(devClient, path); err != nil || !strings.Contains(got, want) {
			t.Errorf("client, /%s: %q, %v", path, got, err)
		}
	}
	i.mage(t, start...)
	if again := awaitVersion(t, 1); again.PID != first.PID {
		t.Error("dev:start of what runs already has started it anew")
	}

	testRestart(t, project)
	testDevLogs(t, i)
	report := devStatus(t, i)
	if len(report.Processes) != 2 || len(report.Ports) != 2 || !report.Running() {
		t.Fatalf("dev:status: %+v", report)
	}
	for _, p := range report.Processes {
		if p.Status != "online" || p.Memory == 0 || (p.Name == "api") != (p.Restarts >= 3) {
			t.Errorf("dev:status: %+v", p)
		}
	}
	if got := i.sh(t, "readlink -f ~/.pm2; findmnt -no LABEL -T ~/.pm2/; pid=$(pm2 pid client); ps -o user= -p $pid; echo $pid"); got != fmt.Sprintf("/var/lib/rockpool/ecosystem/pm2\nrockpool-data\nadmin\n%d", pidOf(report, "client")) {
		t.Errorf("home of PM2, its disk, the processes' user and one of them: %q", got)
	}

	began = time.Now()
	i.mage(t, "dev:stop")
	t.Logf("dev:stop: %.1f s", time.Since(began).Seconds())
	wantNothing(t, i)
	i.mage(t, "dev:stop")
}

// testShells wants the programs of developers in every kind of shell.
func testShells(t *testing.T, i *instance) {
	t.Helper()
	const programs = "for p in node npm npx pm2; do command -v $p || echo no $p; done"
	want := strings.Repeat("/usr/local/bin/node /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/pm2\n", 5)
	got := i.sh(t, fmt.Sprintf("for shell in 'sh -c' 'bash -c' 'bash -lc' 'sudo sh -c' 'sudo -u rockpool bash -lc'; do echo $($shell '%s'); done", programs))
	if got+"\n" != want {
		t.Errorf("programs in sh, bash, a login shell, root's and rockpool's:\n%s", got)
	}
	if got := i.mage(t, "vm:ssh", "node -p 1+1; npx --version >/dev/null && echo npx"); got != "2\nnpx\n" {
		t.Errorf("by ssh: %q", got)
	}
}

// testRestart saves on the host and wants the new program, three times; how long
// that took is a figure, 2.5 to 3.5 s under emulation.
func testRestart(t *testing.T, project string) {
	t.Helper()
	var times []time.Duration
	for version := 2; version <= 4; version++ {
		save := time.Now()
		if err := os.WriteFile(filepath.Join(project, "api/answer.ts"), fmt.Appendf(nil, "export const version: number = %d;\n", version), 0o644); err != nil {
			t.Fatal(err)
		}
		awaitVersion(t, version)
		times = append(times, time.Since(save))
		time.Sleep(time.Second)
	}
	t.Logf("from a save on the host to the new program's answer: %v", times)
}

// testDevLogs reads logs, all and of one process, and follows them. Nothing of
// that stays in the VM.
func testDevLogs(t *testing.T, i *instance) {
	t.Helper()
	all := i.mage(t, "dev:logs", "-n", "200")
	for _, want := range []string{"api    | version 1 listens\n", "api    | version 4 listens\n", "client | client listens\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("dev:logs lacks %q", want)
		}
	}
	if one := i.mage(t, "dev:logs", "client"); strings.Contains(one, "api") || !strings.Contains(one, "client listens") {
		t.Errorf("dev:logs client: %q", one)
	}
	i.fails(t, []string{`Nothing called "nobody"`, "client"}, "dev:logs", "nobody")

	cmd := exec.Command(mageBin, "dev:logs", "-f", "api")
	cmd.Dir, cmd.Env = checkout, i.environment()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	heard := make(chan struct{})
	var once sync.Once
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasSuffix(lines.Text(), "| asked for /followed") {
				once.Do(func() { close(heard) })
			}
		}
	}()
	eventually(t, 30*time.Second, "dev:logs -f prints a new line", func() bool {
		_, _ = ask(devAPI, "followed")
		select {
		case <-heard:
			return true
		default:
			return false
		}
	})
	_ = cmd.Process.Signal(syscall.SIGTERM)
	<-read
	_ = cmd.Wait()
	eventually(t, 30*time.Second, "nothing of dev:logs stays in the VM", func() bool {
		return i.sh(t, "pgrep -f '[d]ev logs' || true") == ""
	})
}

// wantNothing wants no trace of an ecosystem in the VM nor on the host.
func wantNothing(t *testing.T, i *instance) {
	t.Helper()
	if got := i.sh(t, "ps -u admin -o args= | grep -E '[n]ode |[G]od Daemon' || true; systemctl is-failed rockpool-ecosystem.service || true; ls ~/.pm2/pm2.pid 2>/dev/null || true"); got != "inactive" {
		t.Errorf("left in the VM: %q", got)
	}
	for _, port := range []int{devAPI, devClient} {
		if conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			conn.Close()
			t.Errorf("port %d is open", port)
		}
	}
	if report := devStatus(t, i); report.Running() || len(report.Processes) != 0 || len(report.Ports) != 0 {
		t.Errorf("dev:status: %+v", report)
	}
}

func devStatus(t *testing.T, i *instance) host.DevReport {
	t.Helper()
	var report host.DevReport
	if out := i.mage(t, "dev:status", "--json"); json.Unmarshal([]byte(out), &report) != nil {
		t.Fatalf("dev:status --json printed %q", out)
	}
	return report
}

func pidOf(report host.DevReport, name string) int {
	for _, p := range report.Processes {
		if p.Name == name {
			return p.PID
		}
	}
	return 0
}

// awaitVersion asks the API until it answers with a version.
func awaitVersion(t *testing.T, version int) devAnswer {
	t.Helper()
	var answer devAnswer
	limit := time.Now().Add(time.Minute)
	for time.Now().Before(limit) {
		body, err := ask(devAPI, "")
		if err == nil && json.Unmarshal([]byte(body), &answer) == nil && answer.Version == version {
			return answer
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("the API does not come to version %d: %+v", version, answer)
	return answer
}

// ask asks a process of the sample through its forwarded port.
func ask(port int, path string) (string, error) {
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Get(fmt.Sprintf("http://127.0.0.1:%d/%s", port, path))
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}
