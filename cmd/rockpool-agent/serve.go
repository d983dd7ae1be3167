package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	nethttp "net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/boot"
	"github.com/rockpool/rootvm/agent/channel"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/gateway"
	"github.com/rockpool/rootvm/agent/github"
	"github.com/rockpool/rootvm/agent/http"
	"github.com/rockpool/rootvm/agent/login"
	"github.com/rockpool/rootvm/agent/metrics"
	"github.com/rockpool/rootvm/agent/setup"
	"github.com/rockpool/rootvm/agent/sqlite"
	"github.com/rockpool/rootvm/agent/systemd"
	"github.com/rockpool/rootvm/guest"
)

// drainTime is how long requests under way may take after SIGTERM.
const drainTime = 4 * time.Second

// gcPercent trades a little processor time for memory, which workspaces need
// more: 3 MB less with 50 workspaces (doc/benchmarks.md).
const gcPercent = 50

func (p *program) serveCommand() *cobra.Command {
	var flags serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "the daemon: API and pages on a unix socket, the channel to the host",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			o, valid, err := flags.settled(c.Flags(), p.env, p.err)
			if err != nil {
				return err
			}
			d, err := newDaemon(o, p.streams)
			if err != nil {
				return err
			}
			if err := valid.keep(o.database); err != nil {
				d.log.Warn("should a setting be wrong one day, its default will be taken", "err", err)
			}
			if p.env("GOGC") == "" {
				defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
			}
			return d.serve(c.Context())
		},
	}

	flags.add(envFlags{c.Flags(), p.env})
	return c
}

// daemonParts are the parts of a daemon that is being put together.
type daemonParts struct {
	o      serveOptions
	config guest.Config
	log    *slog.Logger
	record *agent.BootRecord
	wait   waiting
	open   func(ctx context.Context, path string) (*sqlite.DB, error)

	working atomic.Pointer[controlplane.ControlPlane] // plane, while there is one that the host can have shut down

	db      *sqlite.DB
	engine  engine
	plane   *controlplane.ControlPlane
	metrics *metrics.Metrics
}

// newDaemon reads what a daemon is told, and opens nothing.
func newDaemon(o serveOptions, s streams) (*daemonParts, error) {
	config, err := setup.ReadResult(os.DirFS("/"), strings.TrimPrefix(o.runDir, "/"))
	if err != nil {
		return nil, configError{err}
	}
	record := &agent.BootRecord{}
	return &daemonParts{
		o: o, config: config, record: record,
		log:  slog.New(slog.NewJSONHandler(s.out, &slog.HandlerOptions{Level: o.logLevel})),
		wait: waiting{pause: retryPause, err: s.err, record: record},
		open: sqlite.Open,
	}, nil
}

// serve opens the database, waiting for it if need be, and serves until ctx
// ends or the socket fails. The host is told how far the VM is from the
// beginning.
func (d *daemonParts) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	d.watchBoot(ctx, &wg)
	unlock, err := until(ctx, &d.wait, func() (func(), error) { return lock(d.o.database + ".lock") })
	if err != nil {
		return stopped(ctx, err)
	}
	defer unlock()
	if err := sweepBackups(d.o.database); err != nil {
		d.log.Warn("what a killed backup left is not removed", "err", err)
	}
	d.db, err = until(ctx, &d.wait, func() (*sqlite.DB, error) { return d.open(ctx, d.o.database) })
	if errors.Is(err, sqlite.ErrUnusable) {
		return configError{err}
	}
	if err != nil {
		return stopped(ctx, err)
	}
	return errors.Join(d.run(ctx), d.db.Close())
}

// run puts the parts together and serves until ctx ends or the socket fails.
func (d *daemonParts) run(ctx context.Context) error {
	e, closeEngine, err := openEngine(d.o.engine, d.log)
	if err != nil {
		return err
	}
	defer closeEngine() // after everything that uses it
	d.engine = e
	d.plane, err = until(ctx, &d.wait, func() (*controlplane.ControlPlane, error) { return newPlane(ctx, d.db, e, d.o, d.log) })
	if err != nil {
		return stopped(ctx, err)
	}

	d.working.Store(d.plane)
	defer d.working.Store(nil)
	d.metrics = metrics.New(counted{d.db, d.plane}, version, d.log)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	server, err := d.server(ctx)
	if err != nil {
		return err
	}
	l, err := http.Listen(ctx, d.o.socket)
	if err != nil {
		return err
	}
	wg.Go(func() {
		if err := d.plane.Run(ctx); err != nil {
			d.log.Error("the control plane ended: jobs wait until the agent is restarted", "err", err)
		}
	})
	wg.Go(func() { d.metrics.Watch(ctx, d.plane) })
	wg.Go(func() {
		<-ctx.Done()
		_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	})
	d.log.Info("serving", "socket", d.o.socket, "database", d.o.database, "runtime", d.o.engine.runtime, "version", version, "seconds", uptime().Seconds())
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady+"\nSTATUS="); err != nil {
		d.log.Warn("systemd was not told that the agent is ready", "err", err)
	}
	return server.Serve(ctx, l, drainTime)
}

// server is the API over the parts.
func (d *daemonParts) server(ctx context.Context) (*http.Server, error) {
	repositories, err := github.New(d.o.githubAPI, time.Now)
	if err != nil {
		return nil, configError{err}
	}
	pages, err := openDashboard(d.o, d.plane, d.config.Ports, ctx.Done(), d.log)
	if err != nil {
		return nil, err
	}
	return &http.Server{
		Database:     d.db,
		Work:         d.plane,
		ControlPlane: d.plane,
		Runtime:      d.plane.Containers(),
		Repositories: repositories,
		Metrics:      d.metrics,
		Gateway:      &gateway.Gateway{Routes: d.plane, Workspaces: d.plane, Ports: d.config.Ports},
		Login:        &login.Login{Username: d.config.Credentials.Username, Hash: d.passwordHash(), Now: time.Now},
		Dashboard:    pages,
		Username:     d.config.Credentials.Username,
		Version:      version,
		Log:          d.log,
	}, nil
}

// passwordHash returns what reads the hash that setup left.
func (d *daemonParts) passwordHash() func() string {
	file := login.HashFile{Path: filepath.Join(d.o.runDir, filepath.Base(guest.PasswordHashFile)), Log: d.log}
	return file.Hash
}

// watchBoot starts what tells the host how far the VM is.
func (d *daemonParts) watchBoot(ctx context.Context, wg *sync.WaitGroup) {
	bus := &systemd.Bus{}
	w := &boot.Watch{
		Init:   bus,
		Stack:  probe{url: d.o.probe},
		Record: d.record,
		Uptime: uptime,
		Log:    d.log,
		Fast:   100 * time.Millisecond,
		Slow:   5 * time.Second,
	}

	port := &channel.Port{
		Path:     d.o.channel,
		Version:  version,
		Record:   d.record,
		Shutdown: d.shutdown,
		Networks: keepNetworks(ctx, wg, d.log),
		Clock:    followClock(ctx, wg, d.log),
		Files:    replayer(ctx, wg, d.log),
		Disk:     d,
		Retry:    250 * time.Millisecond,
		Patience: time.Minute,
		Log:      d.log,
	}

	wg.Go(func() {
		defer bus.Close()
		w.Run(ctx)
	})
	wg.Go(func() { port.Run(ctx) })
	d.serveStreams(ctx, wg, port)
}

// serveStreams serves the channel also where the host reaches the guest by
// streams, whose socket is beside the agent's.
func (d *daemonParts) serveStreams(ctx context.Context, wg *sync.WaitGroup, port *channel.Port) {
	path := filepath.Join(filepath.Dir(d.o.socket), filepath.Base(guest.ChannelSocket))
	l, err := http.Listen(ctx, path)
	if err != nil {
		d.log.Warn("the channel is not served by streams", "err", err)
		return
	}
	wg.Go(func() {
		if err := port.ServeConnections(ctx, l); err != nil {
			d.log.Warn("the channel is not served by streams any more", "err", err)
		}
	})
}

// Report implements [channel.Disk].
func (d *daemonParts) Report(ctx context.Context) (r guest.DiskReport, known bool) {
	plane := d.working.Load()
	if plane == nil {
		return r, false
	}
	disk, err := plane.Disk(ctx)
	if err != nil {
		return r, false
	}
	r = guest.DiskReport{Size: disk.Size, Free: disk.Free, Images: disk.ImagesSize(), Rest: disk.Rest, Workspaces: []guest.WorkspaceDisk{}}
	for _, s := range disk.Workspaces {
		r.Workspaces = append(r.Workspaces, guest.WorkspaceDisk{Name: s.Name, Used: s.Used, Limit: s.Limit})
	}
	return r, true
}

// shutdownTime bounds how long workspaces may take to stop before the machine
// goes away; the launcher waits longer.
const shutdownTime = 40 * time.Second

// shutdown prepares for the machine's end: workspaces stop cleanly, and what
// was written is made durable in any case.
func (d *daemonParts) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownTime)
	defer cancel()
	var err error
	if plane := d.working.Load(); plane != nil {
		err = plane.Shutdown(ctx)
	}
	unix.Sync()
	return err
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
