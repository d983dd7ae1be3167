package qemu_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/vmtest"
)

// bare is a host as a verb has it that starts nothing: neither a driver nor a
// supervisor's program.
func (f *fixture) bare() vm.Host { return vm.Host{Dir: f.host.Dir, Drivers: drivers} }

// inCache makes the supervisor a program in a cache, which is returned.
func (f *fixture) inCache() string {
	f.t.Helper()
	self, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		f.t.Fatal(err)
	}
	cache := f.t.TempDir()
	path := filepath.Join(cache, "rockpool")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		f.t.Fatal(err)
	}
	f.host.Supervisor = func(context.Context) ([]string, error) { return []string{path, "as-supervisor"}, nil }
	return cache
}

// TestHost_Stop_killedSupervisor goes down the whole ladder: a verb needs
// nothing but what the instance remembers.
func TestHost_Stop_killedSupervisor(t *testing.T) {
	f := newFixture(t, "")
	cache := f.inCache()
	f.start()
	state := f.ready()
	if err := os.RemoveAll(cache); err != nil {
		t.Fatal(err)
	}
	kill(t, state.Supervisor)

	var rungs []string
	stopped, err := f.bare().Stop(t.Context(), "one", vm.StopOptions{Timeout: limit}, func(p vm.Progress) { rungs = append(rungs, p.Note) })
	if err != nil || stopped.Status != vm.Stopped || stopped.LastStop != "power button" {
		t.Errorf("%s by %q, %v", stopped.Status, stopped.LastStop, err)
	}
	if slices.Contains(rungs, "the supervisor does not answer: ending the machine without it") {
		t.Errorf("ended by hand: %q", rungs)
	}
	log, err := os.ReadFile(filepath.Join(f.host.Dir, "one", "supervisor.log"))
	if err != nil || !strings.Contains(string(log), `msg=stop rung="asked the guest" seconds=`) {
		t.Errorf("the guest, which had spoken to the supervisor before, was not asked to stop: %v\n%s", err, log)
	}
}

// recorded is the state that the supervisor wrote last, which nobody is asked
// for: a verb would adopt.
func (f *fixture) recorded() (state vm.State) {
	f.t.Helper()
	b, err := os.ReadFile(f.path("state.json"))
	if err == nil {
		err = json.Unmarshal(b, &state)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return state
}

// TestHost_adopt has every other verb meet a machine without a supervisor.
// Those by SSH reach no server, as the guest is a stub.
func TestHost_adopt(t *testing.T) {
	for name, verb := range map[string]func(context.Context, vm.Host) error{
		"Status":    func(ctx context.Context, h vm.Host) error { _, err := h.Status(ctx, "one"); return err },
		"WaitReady": func(ctx context.Context, h vm.Host) error { _, err := h.WaitReady(ctx, "one", limit, nil); return err },
		"SSH": func(ctx context.Context, h vm.Host) error {
			h.SSH(ctx, "one", vm.SSHOptions{Command: []string{"true"}})
			return nil
		},
		"Logs": func(ctx context.Context, h vm.Host) error {
			h.Logs(ctx, "one", vm.LogOptions{Unit: "rockpool-agent"}, io.Discard)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "")
			f.cfg.Ports.SSH = vmtest.FreePort(t)
			cache := f.inCache()
			f.start()
			before := f.ready()
			if err := os.RemoveAll(cache); err != nil {
				t.Fatal(err)
			}
			kill(t, before.Supervisor)
			if err := verb(t.Context(), f.bare()); err != nil {
				t.Fatal(err)
			}
			after := f.recorded()
			if !after.Supervisor.Alive() || after.Supervisor == before.Supervisor || after.Processes[0] != before.Processes[0] || len(after.Troubles) > 0 {
				t.Errorf("not adopted: %+v", after)
			}
		})
	}
}

// TestHost_adopt_brokenProgram falls back to the caller's, and keeps that.
func TestHost_adopt_brokenProgram(t *testing.T) {
	for name, content := range map[string]string{"not a program": "x", "empty": "", "without a word": "#!/bin/sh\nexit 3\n"} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "")
			f.start()
			before := f.ready()
			kill(t, before.Supervisor)
			program := f.path("supervisor")
			if err := os.Remove(program); err != nil { // it runs nowhere: another file in its place
				t.Fatal(err)
			}
			if err := os.WriteFile(program, []byte(content), 0o700); err != nil {
				t.Fatal(err)
			}
			if state, err := f.bare().Status(t.Context(), "one"); err != nil || len(state.Troubles) != 1 || state.Troubles[0].Part != "supervisor" {
				t.Errorf("with nothing to fall back to: %+v, %v", state.Troubles, err)
			}

			after := f.status()
			if !after.Supervisor.Alive() || after.Processes[0] != before.Processes[0] || len(after.Troubles) > 0 {
				t.Fatalf("not adopted: %+v", after)
			}
			kill(t, after.Supervisor)
			if state, err := f.bare().Status(t.Context(), "one"); err != nil || !state.Supervisor.Alive() {
				t.Errorf("the fallback was not kept: %+v, %v", state, err)
			}
		})
	}
}

func TestHost_Destroy_unknownDriver(t *testing.T) {
	f := newFixture(t, "")
	f.start()
	state := f.ready()
	h := f.bare()
	h.Drivers = nil
	if err := h.Destroy(t.Context(), "one"); err == nil {
		t.Error("it was destroyed")
	}
	if _, err := os.Stat(f.path("data.raw")); err != nil || !state.Processes[0].Alive() {
		t.Errorf("data: %v, alive: %v", err, state.Processes[0].Alive())
	}
	if err := f.bare().Destroy(t.Context(), "one"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(f.path("")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
}
