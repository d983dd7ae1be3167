package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/sqlite"
	"github.com/rockpool/rootvm/agent/stub"
)

// engine is what runs the workspaces.
type engine interface {
	agent.Runtime
	agent.Inventory
	agent.Observer
	agent.IDEHealth
}

// openEngine returns the runtime called name, and what ends it.
func openEngine(name string, delay time.Duration) (engine, func(), error) {
	switch name {
	case "stub":
		hook := func(ctx context.Context, c stub.Call) error { return pause(ctx, c, delay) }
		rt := stub.New(stub.Options{Hook: hook, Serve: true})
		return rt, rt.Close, nil
	}
	return nil, nil, configError{fmt.Errorf("RUNTIME %q is not one that this agent has", name)}
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

// newPlane is the control plane over the database and an engine.
func newPlane(ctx context.Context, db *sqlite.DB, e engine, log *slog.Logger) (*controlplane.ControlPlane, error) {
	return controlplane.New(ctx, controlplane.Config{
		Store: db, Runtime: e, Inventory: e, Observer: e, Health: e, Log: log,
	})
}
