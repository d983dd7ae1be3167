package qemu_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/qemu"
	"github.com/rockpool/rootvm/vm/vmtest"
)

// fixture is a host with one instance that stubs run.
type fixture struct {
	t    *testing.T
	host vm.Host
	cfg  vm.Config
}

func newFixture(t *testing.T, mode string) *fixture {
	t.Helper()
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	driver := &qemu.Driver{
		Cache: filepath.Join(dir, "cache"),
		Programs: qemu.Programs{
			QEMU: []string{self, "as-qemu"}, QEMUImg: []string{self, "as-qemu-img"}, Virtiofsd: []string{self, "as-virtiofsd"},
			Env: []string{"STUB=" + mode},
		},
	}
	f := &fixture{t: t, host: vm.Host{
		Dir: filepath.Join(dir, "instances"), Driver: driver, Drivers: drivers, Command: mageCommand,
		Supervisor: func(context.Context) ([]string, error) { return []string{self, "as-supervisor"}, nil },
	}}
	f.cfg = vm.Config{
		Name: "one", Memory: vm.GiB, CPUs: 1, Accel: vm.AccelTCG, Ports: vmtest.Ports(t), ShareDir: t.TempDir(), DataSize: vm.GiB,
		Image: vm.Image{Disk: write("image.qcow2", "QFI\xfb image"), Kernel: write("vmlinuz", "k"), Initrd: write("initrd", "i"), CommandLine: "root=UUID=u", Renew: "go tool mage rootvm:build"},
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(f.path("supervisor.log"))
			t.Logf("supervisor.log\n%s", log)
		}
		if err := f.host.Destroy(context.Background(), "one"); err != nil {
			t.Errorf("destroy: %v", err)
		}
		if t.Failed() {
			return
		}
		if _, err := os.Stat(filepath.Join(f.host.Dir, "one")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("destroy left the directory: %v", err)
		}
	})
	return f
}

func (f *fixture) path(name string) string { return filepath.Join(f.host.Dir, "one", name) }

func (f *fixture) start() vm.State {
	f.t.Helper()
	state, err := f.host.Start(f.t.Context(), f.cfg, nil)
	if err != nil {
		f.t.Fatalf("start: %v", err)
	}
	return state
}

func (f *fixture) ready() vm.State {
	f.t.Helper()
	state, err := f.host.WaitReady(f.t.Context(), "one", limit, nil)
	if err != nil {
		f.t.Fatalf("wait: %v", err)
	}
	return state
}

func (f *fixture) status() vm.State {
	f.t.Helper()
	state, err := f.host.Status(f.t.Context(), "one")
	if err != nil {
		f.t.Fatalf("status: %v", err)
	}
	return state
}

// limit is how long a machine that is busy may take for what takes no time.
const limit = time.Minute

// until waits for a status that is wanted.
func (f *fixture) until(what string, ok func(vm.State) bool) vm.State {
	f.t.Helper()
	for end := time.Now().Add(limit); ; {
		state := f.status()
		if ok(state) {
			return state
		}
		if time.Now().After(end) {
			f.t.Fatalf("%s: never seen; the state is %+v", what, state)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func kill(t *testing.T, p vm.Process) {
	t.Helper()
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
}

func TestHost_StartWaitStop(t *testing.T) {
	f := newFixture(t, "")
	started := f.start()
	if !started.On() || started.Accel != vm.AccelTCG || started.Share != vm.ShareVirtiofs || len(started.Processes) != 2 {
		t.Errorf("started: %+v", started)
	}
	var phases []string
	state, err := f.host.WaitReady(t.Context(), "one", limit, func(p vm.Progress) { phases = append(phases, string(p.Phase)) })
	if err != nil || state.AgentVersion != "v1" || state.ReadyAfter <= 0 {
		t.Fatalf("ready: %+v, %v", state, err)
	}
	if strings.Join(phases, " ") != "kernel ssh" {
		t.Errorf("phases %q", phases)
	}
	again, err := f.host.Start(t.Context(), f.cfg, nil)
	if !errors.Is(err, vm.ErrAlreadyRunning) || again.Processes[0] != state.Processes[0] {
		t.Errorf("second start: %+v, %v", again, err)
	}
	var rungs []string
	stopped, err := f.host.Stop(t.Context(), "one", vm.StopOptions{Timeout: limit}, func(p vm.Progress) { rungs = append(rungs, p.Note) })
	if err != nil || stopped.Status != vm.Stopped || state.On() {
		t.Errorf("stopped: %+v, %v", stopped, err)
	}
	if stopped.LastStop != "power button" {
		t.Errorf("ended by %q after %q", stopped.LastStop, rungs)
	}
	if _, err := f.host.Stop(t.Context(), "one", vm.StopOptions{}, nil); err != nil {
		t.Errorf("second stop: %v", err)
	}
	for _, p := range append(started.Processes, started.Supervisor) {
		select {
		case <-p.Done():
		case <-time.After(limit):
			t.Errorf("%s is still there", p.Name)
		}
	}
}

func TestHost_Stop_ladder(t *testing.T) {
	for mode, want := range map[string]string{"deaf": "quit", "deaf-qmp": "killed"} {
		t.Run(mode, func(t *testing.T) {
			f := newFixture(t, mode)
			f.start()
			state, err := f.host.Stop(t.Context(), "one", vm.StopOptions{Timeout: 500 * time.Millisecond}, nil)
			if err != nil || state.Status != vm.Stopped || state.LastStop != want {
				t.Errorf("got %s by %q, %v; want it to end by %q", state.Status, state.LastStop, err, want)
			}
		})
	}
}

func TestHost_killedSupervisor(t *testing.T) {
	f := newFixture(t, "")
	f.start()
	before := f.ready()
	kill(t, before.Supervisor)
	after := f.status()
	if after.Processes[0] != before.Processes[0] || after.Supervisor == before.Supervisor || !after.Supervisor.Alive() {
		t.Errorf("not adopted: %+v", after)
	}
	if state, err := f.host.Start(t.Context(), f.cfg, nil); !errors.Is(err, vm.ErrAlreadyRunning) || state.Status != vm.Ready {
		t.Errorf("start: %s, %v", state.Status, err)
	}
	kill(t, after.Supervisor)
	if state, err := f.host.Stop(t.Context(), "one", vm.StopOptions{Timeout: limit}, nil); err != nil || state.LastStop != "power button" {
		t.Errorf("stop of an unsupervised machine: %q, %v", state.LastStop, err)
	}
}

func TestHost_killedQEMU(t *testing.T) {
	f := newFixture(t, "")
	f.start()
	before := f.ready()
	kill(t, before.Processes[0])
	state := f.until("failed", func(s vm.State) bool { return s.Status == vm.Failed })
	if state.Failure == nil || !strings.Contains(state.Failure.Message, "unexpectedly") || state.On() {
		t.Errorf("state %+v", state)
	}
	f.until("the end of virtiofsd", func(vm.State) bool { return !before.Processes[1].Alive() })
	f.start()
	f.ready()
}

func TestHost_killedEverything(t *testing.T) {
	f := newFixture(t, "")
	f.start()
	before := f.ready()
	kill(t, before.Supervisor)
	kill(t, before.Processes[0])
	if state := f.status(); state.Status != vm.Failed || state.On() {
		t.Errorf("state %+v", state)
	}
	f.start()
	f.ready()
}

func TestHost_lostState(t *testing.T) { // killed between the start of QEMU and the writing of the state
	f := newFixture(t, "")
	f.start()
	before := f.ready()
	kill(t, before.Supervisor)
	os.Remove(f.path("state.json"))
	after := f.start()
	if before.Processes[0].Alive() || !after.On() {
		t.Errorf("the unknown machine runs beside the new one: %+v", after)
	}
}

func TestHost_killedVirtiofsd(t *testing.T) {
	f := newFixture(t, "")
	f.start()
	before := f.ready()
	kill(t, before.Processes[1])
	after := f.until("a new virtiofsd", func(s vm.State) bool {
		return len(s.Processes) == 2 && s.Processes[1] != before.Processes[1]
	})
	if after.Processes[0] != before.Processes[0] {
		t.Errorf("another machine: %+v", after)
	}
}

func TestHost_StartReady_crash(t *testing.T) {
	for mode, want := range map[string]string{"crash-once": "", "stall-once": "", "crash": "QEMU ended unexpectedly: qemu-system-x86_64: physmem.c:1: Assertion `x' failed."} {
		t.Run(mode, func(t *testing.T) {
			f := newFixture(t, mode)
			again := 0
			state, err := f.host.StartReady(t.Context(), f.cfg, limit, func(p vm.Progress) {
				if strings.Contains(p.Note, "starting it once more") {
					again++
				}
			})
			if want == "" && (err != nil || state.Status != vm.Ready) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s, %v; want %q", state.Status, err, want)
			}
			if again != 1 {
				t.Errorf("started again %d times", again)
			}
		})
	}
}

func TestHost_guestFails(t *testing.T) {
	f := newFixture(t, "unit")
	f.start()
	_, err := f.host.WaitReady(t.Context(), "one", limit, nil)
	if err == nil || !strings.Contains(err.Error(), "rockpool-agent.service: no database") {
		t.Errorf("got %v", err)
	}
}

func TestHost_guestPanics(t *testing.T) {
	f := newFixture(t, "panic")
	f.start()
	state, err := f.host.WaitReady(t.Context(), "one", limit, nil)
	if err == nil || !strings.Contains(err.Error(), "Kernel panic - not syncing") {
		t.Fatalf("got %v", err)
	}
	if log := strings.Join(state.Failure.Log, "\n"); !strings.Contains(log, "last words") {
		t.Errorf("log %q", log)
	}
	if again := f.start(); again.Processes[0] == state.Processes[0] {
		t.Error("the crashed machine was not replaced")
	}
}

func TestHost_Start_faults(t *testing.T) {
	f := newFixture(t, "broken")
	cfg := f.cfg
	expect := func(want string) {
		t.Helper()
		_, err := f.host.Start(t.Context(), f.cfg, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to mention %q", err, want)
		}
		f.cfg = cfg
	}
	expect("this is broken")
	if state := f.status(); state.Status != vm.Failed || state.Failure == nil {
		t.Errorf("after a failed launch: %+v", state)
	}
	f.cfg.Image.Disk += ".gone"
	expect("is missing: build it again")
	f.cfg.Image.SHA256 = strings.Repeat("0", 64)
	expect("is corrupt (it is not what its manifest describes): build it again")
	f.cfg.Image.Kernel += ".gone"
	expect("build it again")
	f.cfg.ShareDir += "/gone"
	expect("shared directory")
	f.cfg.Boot = vm.BootUEFI
	expect("ovmf")
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", f.cfg.Ports.Dashboard))
	if err != nil {
		t.Fatal(err)
	}
	expect(fmt.Sprintf("(pid %d): stop that", os.Getpid()))
	l.Close()
	if err := os.WriteFile(f.cfg.Image.Disk, []byte("bad"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("is corrupt (qemu-img: Could not open: Image is not in qcow2 format): build it again")
}

func TestHost_Start_disks(t *testing.T) {
	f := newFixture(t, "")
	read := func(name string) string { // its first bytes
		t.Helper()
		file, err := os.Open(f.path(name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		b := make([]byte, 64)
		n, _ := file.Read(b)
		return string(b[:n])
	}
	restart := func() []string {
		t.Helper()
		var notes []string
		if _, err := f.host.Stop(t.Context(), "one", vm.StopOptions{Force: true}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := f.host.Start(t.Context(), f.cfg, func(p vm.Progress) { notes = append(notes, p.Note) }); err != nil {
			t.Fatal(err)
		}
		return notes
	}
	f.start()
	mark := func(name string) {
		file, err := os.OpenFile(f.path(name), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		file.WriteAt([]byte("mark"), 8)
	}
	marked := func(name string) bool { return strings.HasPrefix(read(name)[8:], "mark") }
	mark("root.qcow2")
	mark("data.raw")
	if restart(); !marked("root.qcow2") || !marked("data.raw") {
		t.Error("a restart with the same image lost a disk")
	}
	// Another image in place of the first, as a build does it.
	if err := os.WriteFile(f.cfg.Image.Disk+".new", []byte("QFI\xfb another image"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(f.cfg.Image.Disk+".new", f.cfg.Image.Disk); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(read("base.qcow2"), " image") || strings.Contains(read("base.qcow2"), "another") {
		t.Error("the running machine's base changed")
	}
	if notes := restart(); marked("root.qcow2") || !marked("data.raw") || !strings.Contains(strings.Join(notes, " "), "image changed") {
		t.Errorf("after a new image: root kept %v, data kept %v, notes %q", marked("root.qcow2"), marked("data.raw"), notes)
	}
	// A damaged root disk is made again, since it holds nothing of worth.
	if err := os.WriteFile(f.path("root.qcow2"), []byte("bad"), 0o600); err != nil {
		t.Fatal(err)
	}
	if notes := restart(); strings.HasPrefix(read("root.qcow2"), "bad") || !strings.Contains(strings.Join(notes, " "), "damaged") {
		t.Errorf("a damaged root disk was kept; notes %q", notes)
	}
	f.cfg.DataSize = 2 * vm.GiB
	if restart(); !marked("data.raw") {
		t.Error("growing lost the data")
	}
	if info, err := os.Stat(f.path("data.raw")); err != nil || info.Size() != 2*vm.GiB {
		t.Errorf("data disk of %d bytes, %v", info.Size(), err)
	}
}

func TestHost_Start_inheritsNothing(t *testing.T) {
	f := newFixture(t, "")
	file, err := os.Create(filepath.Join(t.TempDir(), "caller.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	inherited, err := syscall.Dup(int(file.Fd())) // without close-on-exec, as flock(1) passes it on
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(inherited)
	state := f.start()
	for _, p := range append(state.Processes, state.Supervisor) {
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.PID))
		if len(links) == 0 {
			t.Errorf("%s has no descriptors to look at", p.Name)
		}
		for _, link := range links {
			if target, _ := os.Readlink(link); target == file.Name() {
				t.Errorf("%s holds the caller's file open", p.Name)
			}
		}
	}
}

func TestHost_Start_callerGone(t *testing.T) { // Ctrl-C while the machine is launched
	f := newFixture(t, "late")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := f.host.Start(ctx, f.cfg, nil)
		ended <- err
	}()
	var launched vm.State
	for end := time.Now().Add(limit); !launched.On(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not launched")
		}
		launched, _ = f.host.Status(t.Context(), "one") // there is no instance at first
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("start: %v", err)
	}
	if err := os.WriteFile(f.path("now"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if state := f.ready(); state.Supervisor != launched.Supervisor {
		t.Errorf("the supervisor ended with its caller: %+v, then %+v", launched.Supervisor, state.Supervisor)
	}
}

func TestHost_names(t *testing.T) {
	f := newFixture(t, "")
	for _, name := range []string{"", "..", "a/b", "UPPER"} {
		if err := f.host.Destroy(t.Context(), name); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	if _, err := f.host.Status(t.Context(), "unknown"); !errors.Is(err, vm.ErrNotFound) {
		t.Errorf("status of an unknown instance: %v", err)
	}
	if _, err := f.host.SSH(t.Context(), "unknown", vm.SSHOptions{}); !errors.Is(err, vm.ErrNotFound) {
		t.Errorf("ssh to an unknown instance: %v", err)
	}
	f.start()
	if names, err := f.host.List(); err != nil || len(names) != 1 || names[0] != "one" {
		t.Errorf("list: %q, %v", names, err)
	}
	var out bytes.Buffer
	os.WriteFile(f.path(vm.SerialLog), []byte("a\nb\nc\n"), 0o600)
	if err := f.host.Logs(t.Context(), "one", vm.LogOptions{Lines: 2}, &out); err != nil || out.String() != "b\nc\n" {
		t.Errorf("logs: %q, %v", out.String(), err)
	}
}
