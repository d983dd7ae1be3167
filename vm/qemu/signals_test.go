package qemu_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rockpool/rootvm/vm"
)

func (f *fixture) supervisorLog() string {
	f.t.Helper()
	b, err := os.ReadFile(f.path("supervisor.log"))
	if err != nil {
		f.t.Fatal(err)
	}
	return string(b)
}

const askedTheGuest = `msg=stop rung="asked the guest" seconds=`

// TestSupervise_signals: on the signals of a session's end and of the host's
// shutdown the supervisor shuts the guest down. That the machine's own processes
// do not end by them is tested in vm and, with the real ones, in ci/e2e: the
// stand-in is a Go program, which unblocks them.
func TestSupervise_signals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			f := newFixture(t, "")
			f.start()
			state := f.ready()
			if err := state.Supervisor.Signal(sig); err != nil {
				t.Fatal(err)
			}
			stopped := f.until("the end", func(s vm.State) bool { return !s.On() && s.Status != vm.Stopping })
			if stopped.Status != vm.Stopped || stopped.LastStop != "power button" {
				t.Errorf("%s by %q: %+v", stopped.Status, stopped.LastStop, stopped.Failure)
			}
			if log := f.supervisorLog(); !strings.Contains(log, askedTheGuest) {
				t.Errorf("the guest was not asked:\n%s", log)
			}
		})
	}
}

// TestHost_Stop_noProgram climbs down the whole ladder though no supervisor can
// be started: the instance's program is gone and the caller has none.
func TestHost_Stop_noProgram(t *testing.T) {
	f := newFixture(t, "")
	f.start()
	state := f.ready()
	kill(t, state.Supervisor)
	if err := os.Remove(f.path("supervisor")); err != nil {
		t.Fatal(err)
	}
	var rungs []string
	stopped, err := f.bare().Stop(t.Context(), "one", vm.StopOptions{Timeout: limit}, func(p vm.Progress) { rungs = append(rungs, p.Note) })
	if err != nil || stopped.Status != vm.Stopped || stopped.LastStop != "power button" {
		t.Errorf("%s by %q, %v", stopped.Status, stopped.LastStop, err)
	}
	if !slices.Contains(rungs, "asked the guest") || slices.Contains(rungs, "ending the machine") {
		t.Errorf("rungs %q", rungs)
	}
	for _, p := range state.Processes {
		if p.Alive() {
			t.Errorf("%s is still there", p.Name)
		}
	}
}

// TestHost_Stop_hungSupervisor takes its place.
func TestHost_Stop_hungSupervisor(t *testing.T) {
	f := newFixture(t, "")
	f.start()
	state := f.ready()
	if err := state.Supervisor.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var rungs []string
	stopped, err := f.host.Stop(t.Context(), "one", vm.StopOptions{Timeout: 2 * time.Second}, func(p vm.Progress) { rungs = append(rungs, p.Note) })
	if err != nil || stopped.Status != vm.Stopped || !slices.Contains(rungs, "asked the guest") {
		t.Errorf("%s by %q, %v", stopped.Status, rungs, err)
	}
	if state.Supervisor.Alive() || state.Processes[0].Alive() {
		t.Error("something is left")
	}
}

// TestHost_Start_afterCutLaunch: what a supervisor left that was killed between
// its two processes is no machine, and nothing waits for it.
func TestHost_Start_afterCutLaunch(t *testing.T) {
	f := newFixture(t, "")
	f.start()
	f.ready()
	if _, err := f.host.Stop(t.Context(), "one", vm.StopOptions{Timeout: limit}, nil); err != nil {
		t.Fatal(err)
	}
	left := exec.Command("sleep", "600")
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	defer left.Wait()
	defer left.Process.Kill()
	p, err := vm.Identify("virtiofsd", left.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}

	var state vm.State
	b, err := os.ReadFile(f.path("state.json"))
	if err == nil {
		err = json.Unmarshal(b, &state)
	}
	state.Status, state.Launching, state.Processes = vm.Starting, true, []vm.Process{p}
	state.Supervisor = vm.Process{Name: "supervisor", PID: 1 << 22, BootID: p.BootID} // nobody
	if err == nil {
		b, err = json.Marshal(state)
	}
	if err == nil {
		err = os.WriteFile(f.path("state.json"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}

	if seen := f.status(); seen.On() || seen.Status != vm.Failed {
		t.Errorf("status %+v", seen)
	}
	f.start()
	f.ready()
}

// TestSupervise_oldCrash: a supervisor that adopts does not take a crash that
// was told of for another.
func TestSupervise_oldCrash(t *testing.T) {
	f := newFixture(t, "")
	f.start()
	f.ready()
	log, err := os.OpenFile(f.path(vm.SerialLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = log.WriteString("[    1.0] Oops: int3: 0000 [#1]\n")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	crashed := f.until("the crash", func(s vm.State) bool { return s.Status == vm.Failed })
	kill(t, crashed.Supervisor)

	f.until("ready again, as the guest says", func(s vm.State) bool { return s.Status == vm.Ready })
	time.Sleep(1700 * time.Millisecond) // a crash is told of a second after it is read, and read within 0.2 s
	if state := f.status(); state.Status != vm.Ready {
		t.Errorf("the old crash counts again: %s, %v", state.Status, state.Failure)
	}
	if _, err := log.WriteString("[    9.0] Oops: int3: 0000 [#2]\n"); err != nil {
		t.Fatal(err)
	}
	f.until("a new crash", func(s vm.State) bool { return s.Status == vm.Failed })
}

// TestHost_Stop_lessPatience: a stop that was interrupted goes on, and a later
// one that has less patience is heard, also by a supervisor that adopted the
// machine meanwhile.
func TestHost_Stop_lessPatience(t *testing.T) {
	for name, adopted := range map[string]bool{"supervised": false, "adopted": true} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "deaf")
			state := f.start()
			first, interrupt := context.WithCancel(t.Context())
			go func() {
				f.until("the first stop", func(s vm.State) bool { return s.Status == vm.Stopping })
				interrupt()
			}()
			if _, err := f.host.Stop(first, "one", vm.StopOptions{Timeout: 10 * limit}, nil); !errors.Is(err, context.Canceled) {
				t.Fatalf("the first stop: %v", err)
			}
			if adopted {
				kill(t, state.Supervisor)
			}
			start := time.Now()
			stopped, err := f.host.Stop(t.Context(), "one", vm.StopOptions{Timeout: time.Second}, nil)
			if took := time.Since(start); err != nil || stopped.Status != vm.Stopped || stopped.LastStop != "quit" || took > limit/2 {
				t.Errorf("%s by %q after %s, %v", stopped.Status, stopped.LastStop, took, err)
			}
		})
	}
}
