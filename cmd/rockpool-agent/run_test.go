package main

import (
	"bytes"
	"context"
	"io"
	"net"
	nethttp "net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rockpool/rootvm/agent"
)

// buffer may be written and read at the same time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// place is a directory in which a daemon can live.
type place struct{ dir string }

func newPlace(t *testing.T) place {
	t.Helper()
	p := place{t.TempDir()}
	for _, d := range []string{"state", "run", "setup"} {
		if err := os.Mkdir(filepath.Join(p.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p place) path(s string) string { return filepath.Join(p.dir, s) }

func (p place) env(name string) string {
	return map[string]string{
		"ROCKPOOL_DATABASE":   p.path("state/rockpool.db"),
		"ROCKPOOL_SOCKET":     p.path("run/agent.sock"),
		"ROCKPOOL_SETUP_DIR":  p.path("setup"),
		"ROCKPOOL_CHANNEL":    p.path("none"),
		"ROCKPOOL_PROBE_URL":  "http://127.0.0.1:1/",
		"RUNTIME":             "stub",
		"ROCKPOOL_STUB_PAGES": "0",
	}[name]
}

// options are what the daemon is told by the environment.
func (p place) options(t *testing.T) serveOptions {
	t.Helper()
	var flags serveFlags
	flags.add(envFlags{pflag.NewFlagSet("serve", pflag.ContinueOnError), p.env})
	o, err := flags.options()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (p place) get(t *testing.T, path string) string {
	t.Helper()
	client := &nethttp.Client{Transport: &nethttp.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", p.path("run/agent.sock"))
		},
	}}
	r, err := client.Get("http://agent" + path)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// start runs the daemon until the function it returns is called, which gives
// the exit code.
func (p place) start(t *testing.T, stderr io.Writer) (stop func() int) {
	t.Helper()
	return p.startLogging(t, &buffer{}, stderr)
}

// startLogging is start with the daemon's log.
func (p place) startLogging(t *testing.T, out, stderr io.Writer) (stop func() int) {
	t.Helper()
	return p.startWith(t, out, stderr, p.env)
}

// startWith is startLogging with another environment.
func (p place) startWith(t *testing.T, out, stderr io.Writer, env func(string) string) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"serve"}, nil, out, stderr, env) }()
	limit := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for p.get(t, "/api/health") != "OK" {
		select {
		case c := <-code:
			t.Fatalf("serve ended with %d: %s", c, stderr)
		case <-limit:
			t.Fatalf("serve does not serve: %s", out)
		case <-tick.C:
		}
	}
	return func() int { cancel(); return <-code }
}

func TestServe(t *testing.T) {
	p := newPlace(t)
	if err := os.WriteFile(p.path("setup/config.json"), []byte(`{"version":1,"credentials":{"username":"eve"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	var stderr buffer
	stop := p.start(t, &stderr)
	if got := p.get(t, "/api/auth/me"); got != `{"user":{"id":0,"username":"eve"}}` {
		t.Errorf("me: %s", got)
	}
	var second buffer
	if code := run(t.Context(), []string{"serve"}, nil, io.Discard, &second, p.env); code != exitFailure || !strings.Contains(second.String(), "another agent uses this database") {
		t.Errorf("second agent: %d %q", code, &second)
	}
	if got := p.get(t, "/api/health"); got != "OK" {
		t.Errorf("the first agent suffered: %s", got)
	}
	if code := stop(); code != exitOK || stderr.String() != "" {
		t.Errorf("exit code %d, stderr %q", code, &stderr)
	}
}

// TestServe_shutDown: after the host asked for a shutdown, and the power stays
// on, health says so and nothing is accepted that would never be done.
func TestServe_shutDown(t *testing.T) {
	p := newPlace(t)
	d, err := newDaemon(p.options(t), streams{out: &buffer{}, err: &buffer{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- d.serve(ctx) }()
	for limit := time.Now().Add(time.Minute); p.get(t, "/api/health") != "OK"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it does not serve")
		}
	}
	if err := d.shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if got := p.get(t, "/api/health"); got != "shutting down" {
		t.Errorf("health: %q", got)
	}
	if _, err := d.working.Load().CreateWorkspace(ctx, agent.NewWorkspace{Name: "demo"}); agent.ErrorCode(err) != agent.CodeUnavailable {
		t.Errorf("create: %v", err)
	}
	if got := p.get(t, "/api/workspaces"); got != `{"items":[]}` {
		t.Errorf("workspaces: %q", got)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestServe_afterKill starts on what a kill -9 leaves: the socket, the lock's
// file, an unfinished log.
func TestServe_afterKill(t *testing.T) {
	p := newPlace(t)
	l, err := net.Listen("unix", p.path("run/agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"state/rockpool.db", "state/rockpool.db.lock", "state/rockpool.db-wal"} {
		if err := os.WriteFile(p.path(f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var stderr buffer
	if code := p.start(t, &stderr)(); code != exitOK {
		t.Errorf("exit code %d, stderr %q", code, &stderr)
	}
}

// TestRun_faults: one clear line, and the exit code that says what kind.
func TestRun_faults(t *testing.T) {
	for name, tt := range map[string]struct {
		args  []string
		files map[string]string
		code  int
		text  string
	}{
		"no command":       {nil, nil, exitUsage, "Usage:"},
		"unknown command":  {[]string{"dance"}, nil, exitUsage, `unknown command "dance"`},
		"unknown flag":     {[]string{"serve", "-x"}, nil, exitUsage, "flag provided but not defined: -x"},
		"argument":         {[]string{"version", "x"}, nil, exitUsage, `unexpected argument "x"`},
		"runtime":          {[]string{"serve", "-runtime", "docker"}, nil, exitConfig, `runtime "docker" is none of podman, stub`},
		"concurrency":      {[]string{"serve", "-concurrency", "0"}, nil, exitConfig, `concurrency "0"`},
		"both dashboards":  {[]string{"serve", "-spa-root", "/", "-spa-proxy", "http://x"}, nil, exitConfig, "exclude each other"},
		"no application":   {[]string{"serve", "-spa-root", "/nonexistent"}, nil, exitConfig, "SPA_ROOT"},
		"odd proxy":        {[]string{"serve", "-spa-proxy", "localhost"}, nil, exitConfig, "must begin with http"},
		"GitHub":           {[]string{"serve", "-github-api", "nowhere"}, nil, exitConfig, "GitHub API"},
		"ws":               {[]string{"ws"}, nil, exitUsage, "a command is missing"},
		"ws unknown":       {[]string{"ws", "dance"}, nil, exitUsage, `unknown command "dance"`},
		"ws no name":       {[]string{"ws", "start"}, nil, exitUsage, "the name of a workspace is missing"},
		"ws two names":     {[]string{"ws", "start", "a", "-no-wait", "b"}, nil, exitUsage, `unexpected argument "b"`},
		"ws nobody there":  {[]string{"ws", "list"}, nil, exitUnavailable, "the agent does not answer"},
		"no backup file":   {[]string{"backup"}, nil, exitUsage, "name one file"},
		"backup of none":   {[]string{"backup", "-"}, nil, exitFailure, "no such file"},
		"restore of none":  {[]string{"restore", "/nonexistent/x"}, nil, exitFailure, "no such file"},
		"log level":        {[]string{"serve", "-log-level", "loud"}, nil, exitConfig, `log level "loud"`},
		"bad config":       {[]string{"serve"}, map[string]string{"setup/config.json": `{"version":9}`}, exitConfig, "version 9"},
		"no data disk":     {[]string{"serve"}, map[string]string{"setup/data.error": "it is\n gone\n"}, exitConfig, "the data disk cannot be used: it is gone"},
		"corrupt database": {[]string{"serve"}, map[string]string{"state/rockpool.db": "garbage"}, exitConfig, "is corrupt"},
		"no directory":     {[]string{"serve", "-database", "/nonexistent/a.db"}, nil, exitFailure, "make the directory"},
		"socket is a file": {[]string{"serve"}, map[string]string{"run/agent.sock": ""}, exitFailure, "not a socket"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			for f, content := range tt.files {
				if err := os.WriteFile(p.path(f), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var out, stderr buffer
			code := run(t.Context(), tt.args, nil, &out, &stderr, p.env)
			if code != tt.code || !strings.Contains(stderr.String(), tt.text) {
				t.Errorf("exit code %d, stderr %q, want %d, %q", code, &stderr, tt.code, tt.text)
			}
			if tt.args != nil && strings.Count(stderr.String(), "\n") != 1 {
				t.Errorf("not one line: %q", &stderr)
			}
		})
	}
}

// TestTwoDashes: flags as the standard library took them are those of pflag.
func TestTwoDashes(t *testing.T) {
	for args, want := range map[string]string{
		"-json":                 "--json",
		"--json -f name":        "--json --follow name",
		"name -n 5 -json=false": "name --lines=5 --json=false",
		"-n -5":                 "--lines=-5",
		"-text -json -f":        "--text=-json --follow",
		"--text=a=b -":          "--text=a=b -",
		"-f -- -json --text":    "--follow -- -json --text",
		"-h":                    "--help",
		"-nope":                 "flag provided but not defined: -nope",
		"--nope=1":              "flag provided but not defined: -nope",
		"-fn 5":                 "flag provided but not defined: -fn",
		"-text":                 "flag needs an argument: -text",
	} {
		c := &cobra.Command{Use: "test"}
		c.Flags().Bool("json", false, "")
		c.Flags().BoolP("follow", "f", false, "")
		c.Flags().IntP("lines", "n", 0, "")
		c.Flags().String("text", "", "")
		spelled, err := twoDashes(c, strings.Fields(args))
		got := strings.Join(spelled, " ")
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
}

// TestRun_help: every command says what it does, however it is asked, and says
// nothing when it fails for another reason than how it was called.
func TestRun_help(t *testing.T) {
	nothing := func(string) string { return "" }
	for _, verb := range []string{"serve", "setup", "mount-share", "console", "ws", "ws list", "ws create", "ws start", "ws stop", "ws rm", "ws logs", "ws open", "dev", "dev start", "dev stop", "dev status", "dev logs", "doctor", "backup", "restore", "storage", "version"} {
		words := strings.Fields(verb)
		var first string
		for _, args := range [][]string{append([]string{"help"}, words...), append(words, "-h"), append(words, "-help"), append(words, "--help")} {
			var out, stderr buffer
			if code := run(t.Context(), args, nil, &out, &stderr, nothing); code != exitOK || !strings.Contains(out.String(), "Usage:\n  rockpool-agent "+verb) || stderr.String() != "" {
				t.Errorf("%q: %d, %q, %q", args, code, &out, &stderr)
			}
			if first == "" {
				first = out.String()
			}
			if out.String() != first {
				t.Errorf("%q says something else: %q", args, &out)
			}
		}
	}
	for _, args := range [][]string{{"help", "dance"}, {"ws", "dance", "-h"}, {"-x", "serve"}} {
		var out, stderr buffer
		if code := run(t.Context(), args, nil, &out, &stderr, nothing); code != exitUsage || out.String() != "" || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%q: %d, %q, %q", args, code, &out, &stderr)
		}
	}
}

func TestRun_information(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"help"}, {"serve", "-h"}, {"ws", "help"}, {"ws", "create", "-h"}, {"doctor", "-h"}, {"backup", "-h"}} {
		var out, stderr buffer
		if code := run(t.Context(), args, nil, &out, &stderr, func(string) string { return "" }); code != exitOK || out.String() == "" || stderr.String() != "" {
			t.Errorf("%q: %d, %q, %q", args, code, &out, &stderr)
		}
	}
}

// TestReaderGone: who follows logs is told by the end of standard input, and
// only where that is asked for.
func TestReaderGone(t *testing.T) {
	in, end := io.Pipe()
	p := &program{streams: streams{in: in, out: io.Discard}}
	attached, detached := p.readerGone(true), p.readerGone(false)
	if attached() || detached() {
		t.Error("gone before its end")
	}
	end.Close()
	for limit := time.Now().Add(time.Minute); !attached(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the end of standard input is not noticed")
		}
	}
	if detached() {
		t.Error("gone although standard input does not matter")
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	piped := (&program{streams: streams{in: in, out: w}}).readerGone(false)
	if piped() {
		t.Error("gone while the pipe is open")
	}
	r.Close()
	if !piped() {
		t.Error("the end of the pipe's reader is not noticed")
	}
}
