//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/vm"
)

// standalone is the program rockpool as a user has it who has nothing else: an
// empty home directory, and a PATH without Go. Only the cache is shared with the
// other tests, so that the pinned QEMU is not fetched again.
type standalone struct {
	t       *testing.T
	program string
	home    string
	env     []string // beside what every user has
}

func (s *standalone) try(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	cache := cmp.Or(os.Getenv("ROCKPOOL_CACHE"), filepath.Join(cmp.Or(os.Getenv("XDG_CACHE_HOME"), filepath.Join(os.Getenv("HOME"), ".cache")), "rockpool-root-vm"))
	cmd := exec.CommandContext(context.WithoutCancel(s.t.Context()), s.program, args...) // also for the clean-up
	cmd.Dir = s.home
	cmd.Env = append([]string{"HOME=" + s.home, "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "ROCKPOOL_CACHE=" + cache, "ROOT_VM_NAME=alone"}, s.env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	s.t.Logf("rockpool %s: exit code %d\n%s%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), indent(out.String()), indent(said.String()))
	return out.String(), said.String(), cmd.ProcessState.ExitCode()
}

func (s *standalone) run(args ...string) string {
	s.t.Helper()
	out, _, code := s.try(args...)
	if code != 0 {
		s.t.Fatalf("rockpool %s: exit code %d", strings.Join(args, " "), code)
	}
	return out
}

func (s *standalone) dir() string {
	return filepath.Join(s.home, ".local/state/rockpool-root-vm/instances/alone")
}

// running is the state of an instance that is on and supervised.
func (s *standalone) running() vm.State {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir(), "state.json"))
	var state vm.State
	if err == nil {
		err = json.Unmarshal(b, &state)
	}
	if err != nil || !state.Supervisor.Alive() || !state.On() {
		s.t.Fatalf("no machine with a supervisor: %+v, %v", state, err)
	}
	return state
}

// signalAll signals every process of the instance, the machine's first, as
// systemd does at the end of a session.
func (s *standalone) signalAll(sig syscall.Signal) {
	s.t.Helper()
	state := s.running()
	for _, p := range append(slices.Clone(state.Processes), state.Supervisor) {
		if err := p.Signal(sig); err != nil {
			s.t.Fatal(err)
		}
	}
}

// loseSupervisor kills the supervisor without a word and returns the machine
// that runs on.
func (s *standalone) loseSupervisor() vm.Process {
	s.t.Helper()
	state := s.running()
	if err := state.Supervisor.Signal(syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	<-state.Supervisor.Done()
	return state.Processes[0]
}

// imageDirectory is the image in dist/ and nothing else.
func imageDirectory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	manifests, err := filepath.Glob(filepath.Join(checkout, "dist", "rockpool-root-trixie-*.manifest.json"))
	if err != nil || len(manifests) != 1 {
		t.Fatalf("manifests %q, %v", manifests, err)
	}

	m, err := builders.ReadManifest(manifests[0])
	if err != nil {
		t.Fatal(err)
	}

	for _, artifact := range m.Artifacts {
		if out, err := exec.CommandContext(t.Context(), "cp", "--reflink=auto", filepath.Join(checkout, "dist", artifact.File), dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}

	if err := m.Write(filepath.Join(dir, filepath.Base(manifests[0]))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestRockpool_Alone is a user with the program, a directory of image files and
// nothing else: up to health, every verb after the supervisor was killed, a
// clean stop without one, and a second start without the directory.
func TestRockpool_Alone(t *testing.T) {
	builds.mage(t, "rockpool")
	for _, name := range []string{"linux-amd64", "linux-arm64", "darwin-arm64"} {
		if info, err := os.Stat(filepath.Join(checkout, "dist", "rockpool-"+name)); err != nil || info.Size() < 1<<20 {
			t.Errorf("rockpool for %s: %v", name, err)
		}
	}
	s := &standalone{t: t, home: t.TempDir(), program: filepath.Join(t.TempDir(), "rockpool")}
	b, err := os.ReadFile(filepath.Join(checkout, "dist", "rockpool-linux-"+runtime.GOARCH))
	if err == nil {
		err = os.WriteFile(s.program, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	isStatic(t, s.program)

	if _, said, code := s.try("up"); code != 3 || !strings.Contains(said, "rockpool up --image DIR") {
		t.Errorf("up without an image: exit code %d, %q", code, said)
	}
	if out := s.run("doctor", "--json"); !json.Valid([]byte(out)) {
		t.Errorf("doctor printed %q", out)
	}

	image := imageDirectory(t)
	start := []string{"--ssh-port=9622", "--web-port=9680", "--memory=2G", "--cpus=2", "--data-size=8G", fmt.Sprintf("--wait=%d", int(readyLimit.Seconds()))}
	out := s.run(append([]string{"up", "--json", "--image", image}, start...)...)
	t.Cleanup(func() { s.try("vm", "destroy", "--yes") })
	var state vm.State
	if err := json.Unmarshal([]byte(out), &state); err != nil || state.Status != vm.Ready {
		t.Fatalf("up --json printed %q: %v", out, err)
	}
	if !healthy(9680) {
		t.Error("the dashboard is not healthy")
	}
	if state.Share != vm.ShareNone {
		t.Errorf("something of the host is shared by default: %s", state.Share)
	}
	if err := errors.Join(os.RemoveAll(image), os.Remove(s.program)); err != nil { // the instance has a copy of both
		t.Fatal(err)
	}
	if err := os.WriteFile(s.program, b, 0o755); err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		verb []string
		want string
	}{
		{[]string{"vm", "status"}, "ready after"},
		{[]string{"vm", "ssh", "--", "sudo sh -c 'echo precious >/opt/rockpool/kept'; echo done"}, "done"},
		{[]string{"vm", "password"}, "-"},
		{[]string{"vm", "logs", "-n", "2", "rockpool-agent"}, "rockpool-agent"},
		{[]string{"ws", "list", "--json"}, "[]"},
		{append([]string{"vm", "start"}, start...), "already running"},
	} {
		machine := s.loseSupervisor()
		if out := s.run(c.verb...); !strings.Contains(out, c.want) {
			t.Errorf("%q after the supervisor died: no %q in %q", c.verb, c.want, out)
		}
		if !machine.Alive() {
			t.Fatalf("%q ended the machine", c.verb)
		}
	}

	s.loseSupervisor()
	if out := s.run("down"); !strings.Contains(out, "asked the guest") || strings.Contains(out, "without it") || !strings.Contains(out, "alone is stopped") {
		t.Errorf("down after the supervisor died said %q", out)
	}
	if _, _, code := s.try("vm", "ssh", "true"); code != 4 {
		t.Errorf("vm ssh into a stopped instance: exit code %d, want 4", code)
	}
	s.run(append([]string{"up"}, start...)...)
	if out := s.run("vm", "ssh", "--", "sudo cat /opt/rockpool/kept"); out != "precious\n" {
		t.Errorf("what was written before the stop reads %q", out)
	}
	if _, _, code := s.try("vm", "ssh", "exit 7"); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	s.signalAll(syscall.SIGTERM)
	eventually(t, readyLimit, "the clean stop that a session's end brings", func() bool {
		return strings.Contains(s.run("vm", "status"), "stopped (")
	})
	log, err := os.ReadFile(filepath.Join(s.dir(), "supervisor.log"))
	if err != nil || !regexp.MustCompile(`msg=stop rung="asked the guest" seconds=(?s:.*)msg=off how="power button" message=""`).Match(log) {
		t.Errorf("the guest was not shut down: %v\n%s", err, log)
	}

	s.run("vm", "destroy", "--yes")
	left, err := filepath.Glob(filepath.Join(s.home, ".local/state/rockpool-root-vm/instances/*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// isStatic fails for a program that needs a loader or a library.
func isStatic(t *testing.T, path string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC }) {
		t.Errorf("%s is linked dynamically", path)
	}
}
