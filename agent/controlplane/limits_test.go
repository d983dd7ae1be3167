package controlplane_test

import (
	"errors"
	"testing"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/stub"
)

// memoryLimit is what the container of a running workspace may use.
func (p *plane) memoryLimit(id string) int64 {
	p.t.Helper()
	u, err := p.Usage(p.t.Context(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	return u.MemoryLimit
}

// TestSetLimits: limits hold at once where they can, are stored, and outlive
// the agent.
func TestSetLimits(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.created("one")
		if got := p.memoryLimit(ws.ID); got != agent.DefaultMemory {
			t.Fatalf("by default it may use %d bytes", got)
		}
		state, err := p.Limits(t.Context(), ws.ID)
		if want := (agent.LimitRange{Limit: 10e9, Default: 10e9, Min: agent.MinDisk, Max: 40e9}); err != nil || state.Disk != want || state.Memory.Max != stub.SharedMemory {
			t.Errorf("limits: %+v, %v, want %+v", state, err, want)
		}

		set := agent.Limits{Memory: 6 << 30, Disk: 30e9}
		state, err = p.SetLimits(t.Context(), ws.ID, agent.Limits{Memory: set.Memory + 5, Disk: set.Disk})
		if err != nil || state.Set != set || state.Memory.Limit != set.Memory || state.Disk.Limit != set.Disk {
			t.Errorf("set: %+v, %v", state, err)
		}
		if got := p.memoryLimit(ws.ID); got != set.Memory {
			t.Errorf("a running workspace may use %d bytes of memory", got)
		}
		if got := p.quota(ws.ID); got != set.Disk {
			t.Errorf("its quota is %d", got)
		}

		_, err = p.SetLimits(t.Context(), ws.ID, agent.Limits{Memory: stub.SharedMemory + 1, Disk: 41e9})
		if e, ok := errors.AsType[*agent.Error](err); !ok || e.Code != agent.CodeValidation || len(e.Fields) != 2 {
			t.Errorf("too much: %v", err)
		}
		if _, err := p.SetLimits(t.Context(), "none", agent.Limits{}); agent.ErrorCode(err) != agent.CodeNotFound {
			t.Errorf("an unknown workspace: %v", err)
		}

		p.end()
		p = w.live(t)
		if got, err := p.Workspace(t.Context(), ws.ID); err != nil || got.Limits != set {
			t.Errorf("after a restart of the agent: %+v, %v", got.Limits, err)
		}
		if _, err := p.SetLimits(t.Context(), ws.ID, agent.Limits{}); err != nil || p.quota(ws.ID) != 10e9 || p.memoryLimit(ws.ID) != agent.DefaultMemory {
			t.Errorf("back to the defaults: %v, quota %d, memory %d", err, p.quota(ws.ID), p.memoryLimit(ws.ID))
		}
	})
}

// TestSetLimits_later: a runtime that cannot change what runs, or is away, does
// not keep an owner from setting limits: they hold with the next start.
func TestSetLimits_later(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.created("one")
		w.hooks.set(fail(stub.OpSetMemory, agent.Errorf(agent.CodeUnavailable, "Podman does not answer.")))
		if _, err := p.SetLimits(t.Context(), ws.ID, agent.Limits{Memory: 1 << 30}); err != nil {
			t.Fatal(err)
		}
		if got := p.memoryLimit(ws.ID); got != agent.DefaultMemory {
			t.Errorf("it may use %d bytes already", got)
		}
		w.hooks.set(nil)
		p.restart(ws.ID)
		if got := p.memoryLimit(ws.ID); got != 1<<30 {
			t.Errorf("after its next start it may use %d bytes", got)
		}
	})
}
