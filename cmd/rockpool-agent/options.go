package main

import (
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"time"

	"github.com/rockpool/rootvm/agent/github"
	"github.com/rockpool/rootvm/guest"
)

// The places in the VM that several commands know.
const (
	defaultDatabase = guest.DatabaseFile
	defaultSocket   = guest.AgentSocket
	defaultProbe    = "http://127.0.0.1:8080/api/health"
)

// serveOptions say where the daemon finds things. Each flag's default can be
// set in the environment.
type serveOptions struct {
	database    string
	socket      string
	runDir      string // what setup left
	channel     string
	probe       string // address through Caddy
	engine      engineOptions
	concurrency int    // jobs at once
	githubAPI   string // base address
	gitBase     string // what owner/repo is relative to
	spaRoot     string // directory served instead of the dashboard
	spaProxy    *url.URL
	logLevel    slog.Level
}

// engineOptions say what runs workspaces.
type engineOptions struct {
	runtime string        // podman or stub
	podman  string        // socket of the user's Podman service
	delay   time.Duration // of each step of the stub
	pages   bool          // the stub serves a page for each running workspace
}

// settings reads flags whose defaults may be set in the environment.
type settings struct {
	*flag.FlagSet
	env func(string) string
}

func newSettings(command string, env func(string) string) settings {
	return settings{flag.NewFlagSet(command, flag.ContinueOnError), env}
}

// text is a flag whose default is the variable's value, if it is set.
func (s settings) text(p *string, name, variable, value, usage string) {
	if v := s.env(variable); v != "" {
		value = v
	}
	s.StringVar(p, name, value, usage+" ("+variable+")")
}

// engine adds the flags of what runs workspaces.
func (s settings) engine(o *engineOptions, delay *string) {
	s.BoolVar(&o.pages, "stub-pages", s.env("ROCKPOOL_STUB_PAGES") != "0", "the stub serves a page for each workspace that runs (ROCKPOOL_STUB_PAGES)")
	s.text(&o.runtime, "runtime", "RUNTIME", "podman", "what runs workspaces: podman, or stub, which only says it does")
	s.text(&o.podman, "podman", "PODMAN_SOCKET", podmanSocket(s.env), "unix socket of the user's Podman service")
	s.text(delay, "stub-delay", "ROCKPOOL_STUB_DELAY", "0s", "how long each step of the stub takes")
}

// podmanSocket is where systemd makes a user's Podman socket.
func podmanSocket(env func(string) string) string {
	if dir := env("XDG_RUNTIME_DIR"); dir != "" {
		return dir + "/podman/podman.sock"
	}
	return "/run/podman/podman.sock"
}

// parseEngine checks what the flags said about the engine.
func parseEngine(o *engineOptions, delay string) error {
	d, err := time.ParseDuration(delay)
	if err != nil || d < 0 {
		return configError{fmt.Errorf("stub delay %q is not a duration like 500ms", delay)}
	}
	o.delay = d
	if o.runtime != runtimePodman && o.runtime != runtimeStub {
		return configError{fmt.Errorf("runtime %q is none of %s, %s", o.runtime, runtimePodman, runtimeStub)}
	}
	return nil
}

func parseServe(args []string, s streams, env func(string) string) (serveOptions, error) {
	var o serveOptions
	var level, delay, concurrency, proxy string
	fs := newSettings("serve", env)
	fs.text(&o.database, "database", "ROCKPOOL_DATABASE", defaultDatabase, "SQLite file")
	fs.text(&o.socket, "socket", "ROCKPOOL_SOCKET", defaultSocket, "unix socket of the API")
	fs.text(&o.runDir, "setup", "ROCKPOOL_SETUP_DIR", guest.SetupRunDir, "directory that rockpool-agent setup filled")
	fs.text(&o.channel, "channel", "ROCKPOOL_CHANNEL", guest.ChannelDevice, "virtio-serial port to the host")
	fs.text(&o.probe, "probe", "ROCKPOOL_PROBE_URL", defaultProbe, "address that answers OK when the VM serves")
	fs.engine(&o.engine, &delay)
	fs.text(&concurrency, "concurrency", "ROCKPOOL_CONCURRENCY", "4", "jobs that run at once; more wait")
	fs.text(&o.githubAPI, "github-api", "GITHUB_API_URL", github.DefaultURL, "base address of the GitHub API")
	fs.text(&o.gitBase, "git-base", "GIT_BASE_URL", "https://github.com", "address that owner/repository is relative to")
	fs.text(&o.spaRoot, "spa-root", "SPA_ROOT", "", "directory of a built single-page application to serve instead of the dashboard")
	fs.text(&proxy, "spa-proxy", "SPA_PROXY_URL", "", "development server to pass the dashboard's pages on to")
	fs.text(&level, "log-level", "LOG_LEVEL", "info", "debug, info, warn or error")
	if err := parse(fs.FlagSet, args, s); err != nil {
		return o, err
	}
	if err := o.logLevel.UnmarshalText([]byte(level)); err != nil {
		return o, configError{fmt.Errorf("log level %q is none of debug, info, warn, error", level)}
	}
	var err error
	if o.concurrency, err = strconv.Atoi(concurrency); err != nil || o.concurrency < 1 || o.concurrency > 64 {
		return o, configError{fmt.Errorf("concurrency %q is not a number from 1 to 64", concurrency)}
	}
	if proxy != "" && o.spaRoot != "" {
		return o, configError{fmt.Errorf("SPA_ROOT and SPA_PROXY_URL exclude each other: set one")}
	}
	if proxy != "" {
		if o.spaProxy, err = url.Parse(proxy); err != nil {
			return o, configError{fmt.Errorf("address of the development server: %w", err)}
		}
	}
	return o, parseEngine(&o.engine, delay)
}
