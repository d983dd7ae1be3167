package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	nethttp "net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/boot"
	"github.com/rockpool/rootvm/agent/channel"
	"github.com/rockpool/rootvm/agent/dashboard"
	"github.com/rockpool/rootvm/agent/github"
	"github.com/rockpool/rootvm/agent/http"
	"github.com/rockpool/rootvm/agent/metrics"
	"github.com/rockpool/rootvm/agent/setup"
	"github.com/rockpool/rootvm/agent/sqlite"
	"github.com/rockpool/rootvm/agent/systemd"
)

// drainTime is how long requests under way may take after SIGTERM.
const drainTime = 4 * time.Second

// serveOptions say where the daemon finds things. Each flag's default can be
// set in the environment.
type serveOptions struct {
	database string
	socket   string
	runDir   string // what setup left
	channel  string
	probe    string // address through Caddy
	runtime  string
	delay    time.Duration // of the stub's changes
	github   string        // API
	logLevel slog.Level
}

func parseServe(args []string, s streams, env func(string) string) (serveOptions, error) {
	var o serveOptions
	level, delay := "", ""
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	text := func(p *string, name, variable, value, usage string) {
		if v := env(variable); v != "" {
			value = v
		}
		fs.StringVar(p, name, value, usage+" ("+variable+")")
	}
	text(&o.database, "database", "ROCKPOOL_DATABASE", "/opt/rockpool/rockpool.db", "SQLite file")
	text(&o.socket, "socket", "ROCKPOOL_SOCKET", "/run/rockpool/agent.sock", "unix socket of the API")
	text(&o.runDir, "setup", "ROCKPOOL_SETUP_DIR", setup.RunDir, "directory that rockpool-agent setup filled")
	text(&o.channel, "channel", "ROCKPOOL_CHANNEL", "/dev/virtio-ports/dev.rockpool.host", "virtio-serial port to the host")
	text(&o.probe, "probe", "ROCKPOOL_PROBE_URL", "http://127.0.0.1:8080/api/health", "address that answers OK when the VM serves")
	text(&o.runtime, "runtime", "RUNTIME", "stub", "what runs workspaces: stub")
	text(&o.github, "github-api", "GITHUB_API_URL", "https://api.github.com", "base address of the GitHub API")
	text(&delay, "stub-delay", "ROCKPOOL_STUB_DELAY", "0s", "how long each step of the stub takes")
	text(&level, "log-level", "LOG_LEVEL", "info", "debug, info, warn or error")
	err := parse(fs, args, s)
	if err != nil {
		return o, err
	}
	if err := o.logLevel.UnmarshalText([]byte(level)); err != nil {
		return o, configError{fmt.Errorf("log level %q is none of debug, info, warn, error", level)}
	}
	if o.delay, err = time.ParseDuration(delay); err != nil {
		return o, configError{fmt.Errorf("stub delay: %w", err)}
	}
	return o, nil
}

// serve is the daemon.
func serve(ctx context.Context, args []string, s streams, env func(string) string) error {
	o, err := parseServe(args, s, env)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(s.out, &slog.HandlerOptions{Level: o.logLevel}))
	config, err := setup.ReadResult(os.DirFS("/"), strings.TrimPrefix(o.runDir, "/"))
	if err != nil {
		return configError{err}
	}
	unlock, err := lock(o.database + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	db, err := sqlite.Open(ctx, o.database)
	if errors.Is(err, sqlite.ErrUnusable) {
		return configError{err}
	}
	if err != nil {
		return err
	}
	err = serveAPI(ctx, o, config, db, log)
	return errors.Join(err, db.Close())
}

// serveAPI serves until ctx ends or the socket fails.
func serveAPI(ctx context.Context, o serveOptions, config agent.GuestConfig, db *sqlite.DB, log *slog.Logger) error {
	l, err := http.Listen(ctx, o.socket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	e, closeEngine, err := openEngine(o.runtime, o.delay)
	if err != nil {
		return err
	}
	defer closeEngine()
	plane, err := newPlane(ctx, db, e, log)
	if err != nil {
		return err
	}
	wg.Go(func() {
		if err := plane.Run(ctx); err != nil {
			log.Error("control plane ended", "err", err)
		}
	})
	repositories, err := github.New(o.github, time.Now)
	if err != nil {
		return configError{err}
	}
	server := &http.Server{
		Database:     db,
		ControlPlane: plane,
		Runtime:      e,
		Repositories: repositories,
		Metrics:      metrics.New(nil, version, log),
		Dashboard: (&dashboard.Dashboard{
			ControlPlane: plane, Ports: config.Ports, Version: version, Now: time.Now, Closing: ctx.Done(), Log: log,
		}).Handler(),
		Ports:    config.Ports,
		Username: config.Credentials.Username,
		Version:  version,
		Log:      log,
	}
	wg.Go(func() {
		<-ctx.Done()
		_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	})
	watchBoot(ctx, &wg, o, log)
	log.Info("serving", "socket", o.socket, "database", o.database, "version", version, "seconds", uptime().Seconds())
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("systemd was not told that the agent is ready", "err", err)
	}
	return server.Serve(ctx, l, drainTime)
}

// watchBoot starts what tells the host how far the VM is.
func watchBoot(ctx context.Context, wg *sync.WaitGroup, o serveOptions, log *slog.Logger) {
	record := &agent.BootRecord{}
	bus := &systemd.Bus{}
	w := &boot.Watch{
		Init:   bus,
		Stack:  probe{url: o.probe},
		Record: record,
		Uptime: uptime,
		Log:    log,
		Fast:   100 * time.Millisecond,
		Slow:   5 * time.Second,
	}
	port := &channel.Port{
		Path:     o.channel,
		Version:  version,
		Record:   record,
		Shutdown: syncDisks,
		Retry:    250 * time.Millisecond,
		Patience: time.Minute,
		Log:      log,
	}
	wg.Go(func() {
		defer bus.Close()
		w.Run(ctx)
	})
	wg.Go(func() { port.Run(ctx) })
}

// syncDisks makes everything written so far durable. There are no workspaces
// to stop yet.
func syncDisks(context.Context) error {
	unix.Sync()
	return nil
}

// probe implements [agent.Stack] with a request that goes the way of a
// user's.
type probe struct{ url string }

func (p probe) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := nethttp.NewRequestWithContext(ctx, nethttp.MethodGet, p.url, nil)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	resp, err := nethttp.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16))
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	if resp.StatusCode != nethttp.StatusOK || string(b) != "OK" {
		return fmt.Errorf("probe: status %d, %q", resp.StatusCode, b)
	}
	return nil
}

// uptime is the time since the kernel started, on the clock that systemd's
// time stamps use.
func uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// lock takes the lock that keeps a second agent from the same database. The
// kernel drops it with the process, however that ends.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lock the database: %w: make the directory, owned by the agent's user", err)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the database: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another agent uses this database (%s is locked): stop it first", path)
		}
		return nil, fmt.Errorf("lock the database: %w", err)
	}
	return func() { _ = f.Close() }, nil
}
