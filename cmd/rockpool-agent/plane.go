package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/metrics"
	"github.com/rockpool/rootvm/agent/review"
	"github.com/rockpool/rootvm/agent/sqlite"
	"github.com/rockpool/rootvm/agent/stub"
)

// The runtimes.
const (
	runtimePodman = "podman"
	runtimeStub   = "stub"
)

// engine is what runs the workspaces.
type engine interface {
	agent.Runtime
	agent.FileReplacer
	agent.Inventory
	agent.Observer
	agent.MemoryLimiter
	agent.Terminator
	agent.IDEHealth
	agent.Previews
	agent.ImageSource

	// Storage is the disk on which the workspaces have their files.
	Storage() agent.Storage
}

// openEngine returns the engine of o, and what ends it.
func openEngine(o engineOptions, log *slog.Logger) (engine, func(), error) {
	if o.runtime == runtimePodman {
		return openPodman(o, log)
	}
	hook := func(ctx context.Context, c stub.Call) error { return pause(ctx, c, o.delay) }
	e := stub.New(stub.Options{Hook: hook, Serve: o.pages})
	return e, e.Close, nil
}

// pause makes the stub's changes take as long as people can watch.
func pause(ctx context.Context, c stub.Call, delay time.Duration) error {
	switch c.Op {
	case stub.OpCreate, stub.OpStart, stub.OpConfigure, stub.OpClone, stub.OpStop:
	default:
		return nil
	}
	if c.After || delay <= 0 {
		return nil
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bootID is where the kernel names its life.
const bootID = "/proc/sys/kernel/random/boot_id"

// newPlane is the control plane over the database and an engine. After an
// error it may be asked for again: nothing is lost. The boot is remembered
// only when what it means is stored, which is that what ran is to be started
// again.
func newPlane(ctx context.Context, db *sqlite.DB, e engine, o serveOptions, log *slog.Logger) (*controlplane.ControlPlane, error) {
	b, err := os.ReadFile(bootID)
	if err != nil {
		return nil, fmt.Errorf("read the name of this boot: %w", err)
	}
	boot := strings.TrimSpace(string(b))
	last, err := db.LastBoot(ctx)
	if err != nil {
		return nil, err
	}
	tidier, _ := e.(agent.Tidier)
	plane, err := controlplane.New(ctx, controlplane.Config{
		Store: db, Runtime: e, Files: e, Inventory: e, Observer: e, Memory: e, Storage: e.Storage(), Images: e, Terminator: e, Health: e, Previews: e, Review: review.Review{}, Log: log, Tidier: tidier,
		Rebooted: last != boot, CloneBaseURL: o.gitBase, Concurrency: o.concurrency,
	})
	if err == nil && last != boot {
		err = db.RememberBoot(ctx, boot)
	}
	return plane, err
}

// counted implements [metrics.Source].
type counted struct {
	db    *sqlite.DB
	plane *controlplane.ControlPlane
}

// Counts reads what is stored, and what reconciliation saw last.
func (c counted) Counts(ctx context.Context) (metrics.Counts, error) {
	state, err := c.plane.State(ctx)
	if err != nil {
		return metrics.Counts{}, err
	}

	counts := metrics.Counts{
		Workspaces: state.Workspaces,
		Jobs:       map[metrics.Job]int{},
		Orphans:    len(state.Orphans),
		RuntimeUp:  state.RuntimeError == "",
	}

	if disk, err := c.plane.Disk(ctx); err == nil { // what is not known has no figures
		counts.Disk = &disk
	}

	err = c.db.View(ctx, func(tx agent.Tx) error {
		jobs, err := tx.Jobs("")
		for _, j := range jobs {
			counts.Jobs[metrics.Job{Kind: j.Kind, State: j.State}]++
		}
		return err
	})
	if err != nil {
		return metrics.Counts{}, fmt.Errorf("count jobs: %w", err)
	}
	return counts, nil
}
