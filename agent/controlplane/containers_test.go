package controlplane_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/stub"
)

// changes are the methods of a runtime that change something.
func changes(rt agent.Runtime, c agent.Container) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"create":    func(ctx context.Context) error { return rt.Create(ctx, c) },
		"start":     func(ctx context.Context) error { return rt.Start(ctx, c.ID) },
		"stop":      func(ctx context.Context) error { return rt.Stop(ctx, c.ID, time.Second) },
		"remove":    func(ctx context.Context) error { return rt.Remove(ctx, c.ID) },
		"configure": func(ctx context.Context) error { return rt.Configure(ctx, c.ID, agent.IDEConfig{Name: c.Name}) },
		"clone": func(ctx context.Context) error {
			return rt.Clone(ctx, c.ID, agent.Clone{URL: "https://git.example/a/b", Folder: "/home/admin/b"})
		},
		"writeFile": func(ctx context.Context) error { return rt.WriteFile(ctx, c.ID, "x", []byte("y")) },
	}
}

// TestContainers_Shutdown: after a shutdown nothing is changed, and may be read.
func TestContainers_Shutdown(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		rt := p.Containers()
		c := agent.Container{ID: strings.Repeat("f", 25), Name: "mine", Slot: 7}
		must(t, rt.Create(t.Context(), c))
		time.Sleep(time.Second) // it runs
		must(t, p.Shutdown(t.Context()))
		for name, change := range changes(rt, c) {
			if err := change(t.Context()); agent.ErrorCode(err) != agent.CodeUnavailable || !strings.HasPrefix(err.Error(), "The VM was asked to shut down") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if status, err := rt.Status(t.Context(), c.ID); err != nil || status != agent.ContainerStopped {
			t.Errorf("status %s, %v", status, err)
		}
	})
}

// TestContainers_Workspace: of a workspace's container others may read, and
// change nothing.
func TestContainers_Workspace(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.created("demo")
		var changed atomic.Int32
		w.hooks.set(func(_ context.Context, c stub.Call) error {
			if c.Op != stub.OpStatus && c.Op != stub.OpAddress && c.Op != stub.OpReadFile && c.Op != stub.OpList {
				changed.Add(1)
			}
			return nil
		})
		rt := p.Containers()
		for name, change := range changes(rt, agent.Container{ID: ws.ID, Name: "demo", Port: 20007, Slot: 7}) {
			err := change(t.Context())
			if agent.ErrorCode(err) != agent.CodeConflict || !strings.HasPrefix(err.Error(), `The container belongs to workspace "demo"`) {
				t.Errorf("%s: %v", name, err)
			}
		}
		status, err := rt.Status(t.Context(), ws.ID)
		must(t, err)
		address, err := rt.Address(t.Context(), ws.ID)
		must(t, err)
		_, err = rt.ReadFile(t.Context(), ws.ID, ".config/code-server/config.yaml")
		must(t, err)
		if status != agent.ContainerRunning || address != ws.Address || changed.Load() != 0 {
			t.Errorf("status %s, address %s, %d changes", status, address, changed.Load())
		}
	})
}

// TestContainers_OneAfterTheOther: what is asked of one id at the same time is
// done one after the other, other ids do not wait, and who gives up leaves.
func TestContainers_OneAfterTheOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		rt := p.Containers()
		one := agent.Container{ID: strings.Repeat("1", 25), Name: "one", Port: 20001, Slot: 1}
		two := agent.Container{ID: strings.Repeat("2", 25), Name: "two", Port: 20002, Slot: 2}
		var atOnce atomic.Int32
		w.hooks.set(func(_ context.Context, c stub.Call) error {
			if c.ID != one.ID || c.Op == stub.OpStatus {
				return nil
			}
			if c.After {
				atOnce.Add(-1)
				return nil
			}
			if atOnce.Add(1) > 1 {
				t.Error("two calls at once")
			}
			time.Sleep(time.Minute)
			return nil
		})
		for range 3 {
			go func() { must(t, rt.Create(t.Context(), one)) }()
		}
		synctest.Wait()
		began := time.Now()
		must(t, rt.Create(t.Context(), two))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := rt.Remove(ctx, one.ID); err == nil {
			t.Error("it did not wait for its turn")
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %s", took)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		must(t, rt.Remove(t.Context(), two.ID))
	})
}
