package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/pflag"

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

// envFlags adds flags whose defaults may be set in the environment.
type envFlags struct {
	*pflag.FlagSet
	env func(string) string
}

// text is a flag whose default is the variable's value, if it is set.
func (f envFlags) text(p *string, name, variable, value, usage string) {
	f.StringVar(p, name, cmp.Or(f.env(variable), value), usage+" ("+variable+")")
}

// engineFlags are the flags of what runs workspaces.
type engineFlags struct {
	engineOptions
	delay string
}

func (e *engineFlags) add(flags envFlags) {
	flags.BoolVar(&e.pages, "stub-pages", flags.env("ROCKPOOL_STUB_PAGES") != "0", "the stub serves a page for each workspace that runs (ROCKPOOL_STUB_PAGES)")
	flags.text(&e.runtime, "runtime", "RUNTIME", "podman", "what runs workspaces: podman, or stub, which only says it does")
	flags.text(&e.podman, "podman", "PODMAN_SOCKET", podmanSocket(flags.env), "unix socket of the user's Podman service")
	flags.text(&e.delay, "stub-delay", "ROCKPOOL_STUB_DELAY", "0s", "how long each step of the stub takes")
}

// podmanSocket is where systemd makes a user's Podman socket.
func podmanSocket(env func(string) string) string {
	if dir := env("XDG_RUNTIME_DIR"); dir != "" {
		return dir + "/podman/podman.sock"
	}
	return "/run/podman/podman.sock"
}

// options checks what the flags said.
func (e *engineFlags) options() (engineOptions, error) {
	o := e.engineOptions
	delay, err := time.ParseDuration(e.delay)
	if err != nil || delay < 0 {
		return o, configError{fmt.Errorf("stub delay %q is not a duration like 500ms", e.delay)}
	}
	o.delay = delay
	if o.runtime != runtimePodman && o.runtime != runtimeStub {
		return o, configError{fmt.Errorf("runtime %q is none of %s, %s", o.runtime, runtimePodman, runtimeStub)}
	}
	return o, nil
}

// serveFlags are the daemon's flags.
type serveFlags struct {
	serveOptions
	engine                    engineFlags
	level, concurrency, proxy string
}

func (f *serveFlags) add(flags envFlags) {
	flags.text(&f.database, "database", "ROCKPOOL_DATABASE", defaultDatabase, "SQLite file")
	flags.text(&f.socket, "socket", "ROCKPOOL_SOCKET", defaultSocket, "unix socket of the API")
	flags.text(&f.runDir, "setup", "ROCKPOOL_SETUP_DIR", guest.SetupRunDir, "directory that rockpool-agent setup filled")
	flags.text(&f.channel, "channel", "ROCKPOOL_CHANNEL", guest.ChannelDevice, "virtio-serial port to the host")
	flags.text(&f.probe, "probe", "ROCKPOOL_PROBE_URL", defaultProbe, "address that answers OK when the VM serves")
	f.engine.add(flags)
	flags.text(&f.concurrency, "concurrency", "ROCKPOOL_CONCURRENCY", "4", "jobs that run at once; more wait")
	flags.text(&f.githubAPI, "github-api", "GITHUB_API_URL", github.DefaultURL, "base address of the GitHub API")
	flags.text(&f.gitBase, "git-base", "GIT_BASE_URL", "https://github.com", "address that owner/repository is relative to")
	flags.text(&f.spaRoot, "spa-root", "SPA_ROOT", "", "directory of a built single-page application to serve instead of the dashboard")
	flags.text(&f.proxy, "spa-proxy", "SPA_PROXY_URL", "", "development server to pass the dashboard's pages on to")
	flags.text(&f.level, "log-level", "LOG_LEVEL", "info", "debug, info, warn or error")
}

// options checks what the flags said.
func (f *serveFlags) options() (serveOptions, error) {
	o := f.serveOptions
	if err := o.logLevel.UnmarshalText([]byte(f.level)); err != nil {
		return o, configError{fmt.Errorf("log level %q is none of debug, info, warn, error", f.level)}
	}
	var err error
	if o.concurrency, err = strconv.Atoi(f.concurrency); err != nil || o.concurrency < 1 || o.concurrency > 64 {
		return o, configError{fmt.Errorf("concurrency %q is not a number from 1 to 64", f.concurrency)}
	}
	if f.proxy != "" && o.spaRoot != "" {
		return o, configError{errors.New("SPA_ROOT and SPA_PROXY_URL exclude each other: set one")}
	}
	if f.proxy != "" {
		if o.spaProxy, err = url.Parse(f.proxy); err != nil {
			return o, configError{fmt.Errorf("address of the development server: %w", err)}
		}
	}

	if err := checkGitBase(o.gitBase); err != nil {
		return o, configError{err}
	}

	o.engine, err = f.engine.options()
	return o, err
}
