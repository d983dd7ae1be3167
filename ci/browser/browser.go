// Package browser runs the browser tests, which are a Node.js project in
// ci/e2e/browser, against a stack that the caller has started, and serves
// them what they cannot do from a browser: restart the agent, reboot, run a
// command in the machine. It owns the project's node_modules.
package browser

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Machine is what the tests do to the machine behind the pages.
type Machine struct {
	// RestartAgent ends the agent and returns when its successor serves.
	RestartAgent func(ctx context.Context) error
	// Reboot returns when the machine serves again; nil when it cannot.
	Reboot func(ctx context.Context) error
	// Pace makes every step of provisioning take so long, for those who look
	// at the middle of it; nil when steps take their own time. The agent is
	// restarted.
	Pace func(ctx context.Context, delay string) error
	// Exec runs a shell script in the machine and returns what it printed;
	// nil when there is none.
	Exec func(ctx context.Context, script string) (string, error)
}

// Suite is one run of the tests.
type Suite struct {
	Dir       string // of package.json
	Artifacts string // emptied at first: screenshots, traces, figures
	Mode      string // "stub": without the tests that need containers; "vm": all
	Dashboard string // addresses of the three servers
	IDE       string
	Preview   string
	Password  string // of the user admin
	Machine   Machine
	Args      []string // more for Playwright, such as a file's name
	Out       io.Writer
}

// Run installs the project's packages when they are not there, and runs the
// tests. A failed test is an error.
func (s *Suite) Run(ctx context.Context) error {
	chromium, err := Chromium(os.Getenv, exec.LookPath)
	if err != nil {
		return err
	}
	if err := s.install(ctx); err != nil {
		return err
	}

	if err := os.RemoveAll(s.Artifacts); err != nil {
		return fmt.Errorf("browser tests: %w", err)
	}
	if err := os.MkdirAll(s.Artifacts, 0o755); err != nil {
		return fmt.Errorf("browser tests: %w", err)
	}

	control, stopControl, err := s.control(ctx)
	if err != nil {
		return fmt.Errorf("browser tests: %w", err)
	}
	defer stopControl()

	cmd := exec.CommandContext(ctx, "node", append([]string{"node_modules/@playwright/test/cli.js", "test"}, s.Args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, s.Out, s.Out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(),
		"E2E_MODE="+s.Mode, "E2E_DASHBOARD="+s.Dashboard, "E2E_IDE="+s.IDE, "E2E_PREVIEW="+s.Preview,
		"E2E_PASSWORD="+s.Password, "E2E_ARTIFACTS="+s.Artifacts, "E2E_CHROMIUM="+chromium, "E2E_CONTROL="+control)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("browser tests: %w: traces and screenshots are in %s", err, s.Artifacts)
	}
	return nil
}

// Chromium finds the browser: the one named by ROCKPOOL_CHROMIUM, else one on
// the PATH.
func Chromium(getenv func(string) string, lookPath func(string) (string, error)) (string, error) {
	if path := getenv("ROCKPOOL_CHROMIUM"); path != "" {
		return lookPath(path)
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome-stable", "google-chrome"} {
		if path, err := lookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("browser tests: no Chromium: run `sudo apt-get install chromium` on Debian or `sudo snap install chromium` on Ubuntu, or set ROCKPOOL_CHROMIUM")
}

// install fetches the packages of package-lock.json when those in
// node_modules are not of it. Playwright's own browsers are not fetched.
func (s *Suite) install(ctx context.Context) error {
	lock, err := os.ReadFile(filepath.Join(s.Dir, "package-lock.json"))
	if err != nil {
		return fmt.Errorf("install packages: %w", err)
	}
	sum := sha256.Sum256(lock)
	want, stamp := hex.EncodeToString(sum[:]), filepath.Join(s.Dir, "node_modules", ".rockpool-lock")
	if got, err := os.ReadFile(stamp); err == nil && string(got) == want {
		return nil
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), "PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install packages: npm ci: %w\n%s", err, bytes.TrimSpace(out))
	}
	return os.WriteFile(stamp, []byte(want), 0o644)
}

// control serves the machine to the tests on the loopback interface.
func (s *Suite) control(ctx context.Context) (address string, stop func(), err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{Handler: s.Machine.handler(), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	return "http://" + l.Addr().String(), func() { _ = srv.Close(); <-done }, nil
}

// maxBody bounds what a test sends, in bytes.
const maxBody = 1 << 20

func (m Machine) handler() http.Handler {
	mux := http.NewServeMux()
	action := func(pattern string, f func(context.Context) error) {
		if f == nil {
			return
		}
		mux.HandleFunc("POST "+pattern, func(w http.ResponseWriter, r *http.Request) { answer(w, "", f(r.Context())) })
	}
	action("/restart-agent", m.RestartAgent)
	action("/reboot", m.Reboot)

	with := func(pattern string, f func(context.Context, string) (string, error)) {
		mux.HandleFunc("POST "+pattern, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
			out := ""
			if err == nil {
				out, err = f(r.Context(), string(body))
			}
			answer(w, out, err)
		})
	}

	if m.Exec != nil {
		with("/exec", m.Exec)
	}
	if m.Pace != nil {
		with("/pace", func(ctx context.Context, delay string) (string, error) { return "", m.Pace(ctx, delay) })
	}
	return mux
}

func answer(w http.ResponseWriter, out string, err error) {
	if err != nil {
		http.Error(w, strings.TrimSpace(err.Error()+"\n"+out), http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, out)
}
