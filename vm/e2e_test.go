//go:build e2e

// The tests of this file run real machines. They need the variable
// ROCKPOOL_E2E with the path of a JSON file of the form of [under]; `mage e2e`
// writes it. Every machine takes most of a minute under emulation, so the
// tests share them: TestE2E runs its parts in order.
package vm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/qemu"
)

// under is what is tested: where instances may be made, with which programs,
// and the instance to make. Its shared directory and name are replaced.
type under struct {
	Dir        string      `json:"dir"`
	Supervisor []string    `json:"supervisor"`
	Driver     qemu.Driver `json:"driver"`
	Config     vm.Config   `json:"config"`
	Boots      []string    `json:"boots"`      // modes to test besides Config.Boot
	Health     bool        `json:"health"`     // the guest serves /api/health on the dashboard's port
	ReadyLimit int         `json:"readyLimit"` // seconds; 0 is 300
}

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "as-mmap" { // in the guest
		if err := writeByMmap(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// writeByMmap changes a file through a shared mapping.
func writeByMmap(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(8192); err != nil {
		return err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	copy(b[5000:], "by mmap")
	return errors.Join(unix.Msync(b, unix.MS_SYNC), unix.Munmap(b))
}

// machine is an instance under test.
type machine struct {
	*testing.T
	under
	host  vm.Host
	share string // on the host
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	path := os.Getenv("ROCKPOOL_E2E")
	if path == "" {
		t.Skip("ROCKPOOL_E2E is not set: run `go tool mage e2e`")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{T: t, share: t.TempDir()}
	if err := json.Unmarshal(b, &m.under); err != nil {
		t.Fatal(err)
	}
	m.Config.Name, m.Config.ShareDir = "rockpool-e2e", m.share
	m.Config.FillDefaults()
	m.host = vm.Host{
		Dir: m.Dir, Driver: &m.Driver,
		Drivers:    vm.Drivers{"qemu": func() vm.Driver { return new(qemu.Driver) }},
		Supervisor: func(context.Context) ([]string, error) { return m.Supervisor, nil },
		Command:    func(verb ...string) string { return "go tool mage " + strings.Join(verb, ":") },
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the serial log ends with:\n%s", m.serial())
		}
		if err := m.host.Destroy(context.Background(), m.Config.Name); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	return m
}

// in runs a part of the test on the same machine.
func (m *machine) in(name string, part func(m *machine)) {
	m.T.Helper()
	m.Run(name, func(t *testing.T) {
		inner := *m
		inner.T = t
		part(&inner)
	})
}

func (m *machine) serial() string {
	var b bytes.Buffer
	m.host.Logs(context.Background(), m.Config.Name, vm.LogOptions{Lines: 30}, &b)
	return b.String()
}

// boot starts the machine and waits until it is ready.
func (m *machine) boot() vm.State {
	m.Helper()
	begin := time.Now()
	show := func(p vm.Progress) { m.Logf("%5.1fs %s %.1fs %s", p.Elapsed.Seconds(), p.Phase, p.Seconds, p.Note) }
	limit := time.Duration(m.ReadyLimit) * time.Second
	if limit == 0 {
		limit = 5 * time.Minute
	}
	state, err := m.host.StartReady(m.Context(), m.Config, limit, show)
	if err != nil {
		m.Fatalf("start: %v", err)
	}
	m.Logf("%s boot, %s, %s: ready %.1fs after power-on, %.1fs after the command", state.Boot, state.Accel, state.Share, state.ReadyAfter, time.Since(begin).Seconds())
	if m.Health {
		m.healthy()
	}
	return state
}

func (m *machine) healthy() {
	m.Helper()
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/api/health", m.Config.Ports.Dashboard))
	if err != nil {
		m.Fatalf("health: %v", err)
	}
	defer response.Body.Close()
	if b, _ := io.ReadAll(response.Body); response.StatusCode != 200 || !strings.Contains(string(b), "OK") {
		m.Errorf("health: %s %q", response.Status, b)
	}
}

func (m *machine) status() vm.State {
	m.Helper()
	state, err := m.host.Status(m.Context(), m.Config.Name)
	if err != nil {
		m.Fatalf("status: %v", err)
	}
	return state
}

// ssh runs a line of shell in the guest, which must succeed within a minute,
// and returns its output.
func (m *machine) ssh(line string) string {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	code, err := m.host.SSH(ctx, m.Config.Name, vm.SSHOptions{Command: []string{line}, Stdout: &out, Stderr: &out})
	if err != nil || code != 0 {
		m.Fatalf("in the guest: %s: code %d, %v\n%s", line, code, err, out.String())
	}
	return strings.TrimSpace(out.String())
}

func (m *machine) stop() vm.State {
	m.Helper()
	begin := time.Now()
	state, err := m.host.Stop(m.Context(), m.Config.Name, vm.StopOptions{}, nil)
	if err != nil || state.Status != vm.Stopped {
		m.Fatalf("stop: %s, %v", state.Status, err)
	}
	m.Logf("stopped by %q in %.1fs", state.LastStop, time.Since(begin).Seconds())
	return state
}

// kill sends SIGKILL and waits for the end.
func (m *machine) kill(p vm.Process) {
	m.Helper()
	if err := p.Signal(syscall.SIGKILL); err != nil {
		m.Fatal(err)
	}
	<-p.Done()
}

func process(s vm.State, name string) vm.Process {
	i := slices.IndexFunc(s.Processes, func(p vm.Process) bool { return p.Name == name })
	if i < 0 {
		return vm.Process{}
	}
	return s.Processes[i]
}

// eventually tries until check is true, for at most limit.
func (m *machine) eventually(what string, limit time.Duration, check func() bool) {
	m.Helper()
	for end := time.Now().Add(limit); !check(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			m.Fatalf("%s: not seen within %s", what, limit)
		}
	}
}

func TestE2E(t *testing.T) {
	m := newMachine(t)
	m.in("faults", (*machine).testFaults)
	m.Config.Share = vm.ShareVirtiofs
	m.in("boot", func(m *machine) { m.boot() })
	if t.Failed() {
		return
	}
	m.in("second start", (*machine).testSecondStart)
	m.in("virtiofs", (*machine).testShare)
	m.in("kill the supervisor", (*machine).testKillSupervisor)
	m.in("kill virtiofsd", (*machine).testKillVirtiofsd)
	m.in("kill QEMU", (*machine).testKillQEMU)
	m.in("9p", (*machine).testShare) // testKillQEMU started with 9p
	m.in("stop", func(m *machine) { m.stop() })
	m.in("kill QEMU and supervisor", (*machine).testKillBoth)
	for _, boot := range m.Boots {
		m.in("boot by "+boot, func(m *machine) {
			m.Config.Boot = boot
			m.boot()
			m.stop()
		})
	}
}

// testFaults starts what cannot start: each time one clear line.
func (m *machine) testFaults() {
	expect := func(what string, cfg vm.Config, want ...string) {
		m.Helper()
		_, err := m.host.Start(m.Context(), cfg, nil)
		if err == nil {
			m.Errorf("%s: it started", what)
			m.host.Stop(m.Context(), cfg.Name, vm.StopOptions{Force: true}, nil)
			return
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				m.Errorf("%s: %v; want it to mention %q", what, err, w)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			m.Errorf("%s: more than one line: %v", what, err)
		}
	}
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", m.Config.Ports.SSH))
	if err != nil {
		m.Fatalf("the SSH port of the test is taken: %v", err)
	}
	expect("busy port", m.Config, fmt.Sprint("port ", m.Config.Ports.SSH), fmt.Sprintf("(pid %d)", os.Getpid()))
	l.Close()

	cfg := m.Config
	cfg.Image.Disk, cfg.Image.SHA256 = filepath.Join(m.TempDir(), "corrupt.qcow2"), ""
	if err := os.WriteFile(cfg.Image.Disk, make([]byte, 1<<20), 0o644); err != nil {
		m.Fatal(err)
	}
	expect("corrupt qcow2", cfg, "corrupt", "rootvm:build")
	cfg.Image.SHA256 = strings.Repeat("0", 64)
	expect("wrong digest", cfg, "corrupt", "rootvm:build")
	cfg.Image.Disk += ".gone"
	expect("missing image", cfg, "missing", "rootvm:build")
}

func (m *machine) testSecondStart() {
	before := m.status()
	state, err := m.host.Start(m.Context(), m.Config, nil)
	if !errors.Is(err, vm.ErrAlreadyRunning) || process(state, "qemu") != process(before, "qemu") {
		m.Errorf("got %+v, %v", state.Processes, err)
	}
}

// testShare checks what programs expect of a file system, in both directions.
func (m *machine) testShare() {
	m.Logf("shared by %s", m.status().Share)
	dir, err := os.MkdirTemp(m.share, "t")
	if err != nil {
		m.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		m.Fatal(err)
	}
	guest := "/mnt/rockpool/" + filepath.Base(dir)
	host := func(name string) string { return filepath.Join(dir, name) }

	m.write(host("file"), "one")
	if got := m.ssh("cat " + guest + "/file"); got != "one" {
		m.Errorf("the host's file reads %q", got)
	}
	m.write(host("file"), "an edit that is longer")
	if got := m.ssh("stat -c %s " + guest + "/file; cat " + guest + "/file"); !strings.HasSuffix(got, "an edit that is longer") {
		m.Errorf("after an edit on the host the guest reads %q", got)
	}
	if os.Geteuid() == 0 && m.status().Share == vm.Share9P {
		m.Log("9p shows root's files as root's, so admin cannot write: the rest needs an ordinary user")
		return
	}
	if got := m.ssh("stat -c %U " + guest + "/file"); got != "admin" {
		m.Errorf("the host's file belongs to %q in the guest", got)
	}

	m.ssh("cd " + guest + " && echo mine > by-admin && sudo sh -c 'echo root > by-root' && mkdir d && chmod 750 by-admin && ln -s by-admin link && mv by-root d/moved && ln by-admin hard")
	for _, name := range []string{"by-admin", "d", "d/moved", "link"} {
		info, err := os.Lstat(host(name))
		if err != nil {
			m.Errorf("made in the guest: %v", err)
			continue
		}
		if uid := int(info.Sys().(*syscall.Stat_t).Uid); uid != os.Geteuid() {
			m.Errorf("%s, made in the guest, belongs to %d on the host, not to %d", name, uid, os.Geteuid())
		}
	}
	if info, err := os.Stat(host("by-admin")); err != nil || info.Mode().Perm() != 0o750 {
		m.Errorf("chmod: %v, %v", info, err)
	}
	if target, err := os.Readlink(host("link")); err != nil || target != "by-admin" {
		m.Errorf("symlink: %q, %v", target, err)
	}
	m.ssh("cd " + guest + " && echo replaced > tmp && mv tmp by-admin && test \"$(cat hard)\" = mine && rm hard link && rm -r d")

	m.ssh("cd " + guest + " && git init -q repo && cd repo && for i in 1 2 3; do echo $i > f$i; done && git add . && " +
		"git -c user.name=e -c user.email=e@example.invalid commit -qm one && git gc -q && git fsck --strict && git checkout -q -b other && git status --porcelain")
	self, err := os.Executable()
	if err != nil {
		m.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		m.Fatal(err)
	}
	if err := os.WriteFile(host("program"), program, 0o755); err != nil {
		m.Fatal(err)
	}
	m.ssh("cd " + guest + " && ./program as-mmap mapped")
	if b, err := os.ReadFile(host("mapped")); err != nil || len(b) != 8192 || string(b[5000:5007]) != "by mmap" {
		m.Errorf("written by mmap in the guest: %d bytes, %v", len(b), err)
	}
}

func (m *machine) write(path, content string) {
	m.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		m.Fatal(err)
	}
}

func (m *machine) testKillSupervisor() {
	before := m.status()
	m.kill(before.Supervisor)
	after := m.status()
	if process(after, "qemu") != process(before, "qemu") || !after.Supervisor.Alive() || after.Status != vm.Ready {
		m.Errorf("not adopted: %+v", after)
	}
	m.ssh("true")
}

// testKillVirtiofsd expects the share to come back by itself when the guest
// was not using it at that moment.
func (m *machine) testKillVirtiofsd() {
	before := m.status()
	m.write(filepath.Join(m.share, "after"), "back")
	m.kill(process(before, "virtiofsd"))
	m.eventually("a new virtiofsd", time.Minute, func() bool {
		s := m.status()
		p := process(s, "virtiofsd")
		return p.PID != 0 && p != process(before, "virtiofsd") && len(s.Troubles) == 0
	})
	m.eventually("the share in the guest", time.Minute, func() bool {
		ctx, cancel := context.WithTimeout(m.Context(), 10*time.Second)
		defer cancel()
		code, err := m.host.SSH(ctx, m.Config.Name, vm.SSHOptions{Command: []string{"grep -q back /mnt/rockpool/after"}})
		return err == nil && code == 0
	})
	if after := m.status(); process(after, "qemu") != process(before, "qemu") {
		m.Error("another machine")
	}
}

// testKillQEMU expects what was written to be there still. It changes the share
// to 9p.
func (m *machine) testKillQEMU() {
	m.ssh("echo kept | sudo tee /var/lib/rockpool/e2e >/dev/null; sync")
	before := m.status()
	m.kill(process(before, "qemu"))
	m.eventually("the failure", time.Minute, func() bool { return m.status().Status == vm.Failed })
	if state := m.status(); state.On() || state.Failure == nil {
		m.Errorf("state %+v", state)
	}
	m.Config.Share = vm.Share9P
	if m.boot(); m.ssh("cat /var/lib/rockpool/e2e") != "kept" {
		m.Error("the data disk lost a file")
	}
}

// testKillBoth works on a machine in the middle of its boot.
func (m *machine) testKillBoth() {
	start := func() {
		m.Helper()
		if _, err := m.host.Start(m.Context(), m.Config, nil); err != nil {
			m.Errorf("start: %v", err)
		}
	}
	start()
	before := m.status()
	m.kill(before.Supervisor)
	m.kill(process(before, "qemu"))
	if state := m.status(); state.On() || state.Status != vm.Failed {
		m.Errorf("state %+v", state)
	}
	start()
	m.stop()
}
