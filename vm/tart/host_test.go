package tart_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/tart"
	"github.com/rockpool/rootvm/vm/tart/standin"
	"github.com/rockpool/rootvm/vm/vmtest"
)

// TestMain lets the test binary play Tart and the supervisor.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "as-tart":
			os.Exit(standin.Main(os.Args[2:], os.Getenv, os.Stdout, os.Stderr))
		case "as-supervisor":
			os.Exit(supervisor(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// drivers are those of the supervisor.
var drivers = vm.Drivers{"tart": func() vm.Driver { return new(tart.Driver) }}

func supervisor(args []string) int {
	err := vm.Supervise(context.Background(), args[1], vm.SuperviseOptions{
		Drivers: drivers, Launch: args[0] == "launch", Ready: os.Stdout, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// fixture is a host with Tart's stand-in and an image.
type fixture struct {
	*testing.T
	vmtest.Subject
	driver *tart.Driver
	home   string // Tart's
}

const mac = "76:0a:11:22:33:44"

// newFixture makes a host whose guests are of a kind.
func newFixture(t *testing.T, kind string) *fixture {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := &fixture{T: t, home: filepath.Join(dir, "tart")}
	f.driver = &tart.Driver{Program: tart.Program{
		Argv: []string{self, "as-tart"}, Home: f.home, Env: []string{standin.GuestVariable + "=" + kind},
	}}
	if err := os.MkdirAll(filepath.Join(f.home, "vms"), 0o755); err != nil {
		t.Fatal(err)
	}
	f.Subject = vmtest.Subject{
		Host: vm.Host{
			Dir: filepath.Join(dir, "instances"), Driver: f.driver, Drivers: drivers,
			Command:    func(verb ...string) string { return "rockpool " + strings.Join(verb, " ") },
			Supervisor: func(context.Context) ([]string, error) { return []string{self, "as-supervisor"}, nil },
		},
		Config: vm.Config{
			Name: "one", Architecture: "arm64", Memory: vm.GiB, CPUs: 2, Ports: vmtest.Ports(t), DataSize: vm.GiB,
			Image: vm.Image{Disk: f.image(filepath.Join(dir, "image.tart"), "disk"), Renew: "rockpool up --image DIR"},
		},
		Machine: "tart", Speaks: true, Off: true, Port: vmtest.Echo, Console: "Booting Linux", KeptFile: "data.raw",
	}
	return f
}

// image writes a VM's directory.
func (f *fixture) image(dir, content string) string {
	f.Helper()
	f.write(filepath.Join(dir, "config.json"), `{"version":1,"os":"linux","arch":"arm64","cpuCountMin":2,"cpuCount":4,"memorySizeMin":1073741824,"memorySize":4294967296,"macAddress":"`+mac+`","display":{"width":1024,"height":768},"diskFormat":"raw"}`)
	f.write(filepath.Join(dir, "nvram.bin"), "variables")
	f.write(filepath.Join(dir, "disk.img"), content+strings.Repeat("\x00", 1<<20-len(content)))
	return dir
}

func (f *fixture) write(path, content string) {
	f.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) vm(name string) string { return filepath.Join(f.home, "vms", "one", name) }

func (f *fixture) read(path string) string {
	f.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	return string(b)
}

// start starts the instance and returns the notes for the user.
func (f *fixture) start() (state vm.State, notes string) {
	f.Helper()
	state, err := f.Host.StartReady(f.Context(), f.Config, time.Minute, func(p vm.Progress) { notes += p.Note + "\n" })
	if err != nil {
		f.Fatalf("start: %v", err)
	}
	return state, notes
}

func (f *fixture) stop() {
	f.Helper()
	if state, err := f.Host.Stop(f.Context(), "one", vm.StopOptions{Timeout: 2 * time.Second}, nil); err != nil || state.Status != vm.Stopped {
		f.Fatalf("stop: %s, %v", state.Status, err)
	}
}

// destroyed removes the instance when the test ends, of which Tart keeps nothing.
func (f *fixture) destroyed() *fixture {
	f.Cleanup(func() {
		if f.Failed() {
			for _, name := range []string{"supervisor.log", "tart.log"} {
				b, _ := os.ReadFile(filepath.Join(f.Host.Dir, "one", name))
				f.Logf("%s\n%s", name, b)
			}
		}
		if err := f.Host.Destroy(context.Background(), "one"); err != nil {
			f.Errorf("destroy: %v", err)
		}
		if left, err := filepath.Glob(filepath.Join(f.home, "vms", "one*")); err != nil || len(left) > 0 {
			f.Errorf("Tart still has %v, %v", left, err)
		}
	})
	return f
}

func TestDriver_Contract(t *testing.T) {
	vmtest.Run(t, func(t *testing.T) vmtest.Subject {
		t.Parallel()
		return newFixture(t, standin.GuestStub).Subject
	})
}

// TestDriver_Contract_NoControl: on macOS 13 ports go over the NAT, and the
// guest, which hears nothing, feels the power button.
func TestDriver_Contract_NoControl(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a socket that does not come, again and again")
	}
	t.Parallel()
	f := newFixture(t, standin.GuestNoControl).destroyed()
	state, _ := f.start()
	if len(state.Troubles) != 1 || !strings.Contains(state.Troubles[0].Message, "ports go over its NAT") {
		t.Errorf("troubles %+v", state.Troubles)
	}
	conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", f.Config.Ports.Dashboard))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	vmtest.Echo(t, conn.(*net.TCPConn))
	f.stop()
	if s, err := f.Host.Status(t.Context(), "one"); err != nil || s.LastStop != "power button" {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestDriver_Stop_Deaf: a guest that feels no button has its power cut.
func TestDriver_Stop_Deaf(t *testing.T) {
	t.Parallel()
	f := newFixture(t, standin.GuestDeaf).destroyed()
	if _, err := f.Host.Start(t.Context(), f.Config, nil); err != nil {
		t.Fatal(err)
	}
	f.stop()
	if s, err := f.Host.Status(t.Context(), "one"); err != nil || s.LastStop != "quit" {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestDriver_Panic: the console goes through the pseudo-terminal into the log,
// where the supervisor sees the kernel die.
func TestDriver_Panic(t *testing.T) {
	t.Parallel()
	f := newFixture(t, standin.GuestPanic).destroyed()
	_, err := f.Host.StartReady(t.Context(), f.Config, time.Minute, nil)
	if err == nil || !strings.Contains(err.Error(), "Kernel panic") {
		t.Errorf("start: %v", err)
	}
}

func TestDriver_Broken(t *testing.T) {
	t.Parallel()
	f := newFixture(t, standin.GuestBroken).destroyed()
	_, err := f.Host.Start(t.Context(), f.Config, nil)
	if err == nil || !strings.Contains(err.Error(), "Tart did not run the VM: Error: Failed to lock auxiliary storage.") {
		t.Errorf("start: %v", err)
	}
}

// TestDriver_GuestOff: a guest that switches itself off is no failure, also to a
// supervisor that did not start Tart.
func TestDriver_GuestOff(t *testing.T) {
	t.Parallel()
	for _, adopted := range []bool{false, true} {
		t.Run(fmt.Sprintf("adopted %t", adopted), func(t *testing.T) {
			f := newFixture(t, standin.GuestStub).destroyed()
			state, _ := f.start()
			if adopted {
				state.Supervisor.Signal(9)
				<-state.Supervisor.Done()
				if _, err := f.Host.Status(t.Context(), "one"); err != nil {
					t.Fatal(err)
				}
			}
			if err := state.Processes[0].Signal(12); err != nil { // SIGUSR2, which nobody asked the supervisor for
				t.Fatal(err)
			}
			<-state.Processes[0].Done()
			for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
				s, err := f.Host.Status(t.Context(), "one")
				if err != nil {
					t.Fatal(err)
				}
				if !s.On() && s.Status != vm.Ready {
					if s.Status != vm.Stopped || s.LastStop != "the guest switched itself off" {
						t.Errorf("%+v", s)
					}
					return
				}
				if time.Now().After(end) {
					t.Fatalf("still %+v", s)
				}
			}
		})
	}
}

// TestDriver_Root: Tart's VM is the image's, with the sizes that were asked for;
// another image is another VM, and data stays.
func TestDriver_Root(t *testing.T) {
	t.Parallel()
	f := newFixture(t, standin.GuestStub).destroyed()
	f.Config.DiskSize = 2<<20 + 1
	f.start()
	f.stop()
	if console := f.read(filepath.Join(f.Host.Dir, "one", "serial.log")); !strings.Contains(console, "Power down") {
		t.Errorf("the power was cut: %s", console)
	}
	if info, err := os.Stat(f.vm("disk.img")); err != nil || info.Size() != 2<<20+512 {
		t.Errorf("the root disk: %v, %v", info, err)
	}
	if c := f.read(f.vm("config.json")); !strings.Contains(c, `"cpuCount": 2`) || !strings.Contains(c, `"memorySize": 1073741824`) {
		t.Errorf("config.json: %s", c)
	}

	f.write(f.vm("disk.img"), "written by the guest"+strings.Repeat("\x00", 2<<20+512-20))
	f.start()
	f.stop()
	if !strings.HasPrefix(f.read(f.vm("disk.img")), "written by the guest") {
		t.Error("the same image was copied again")
	}

	f.Config.Image.Disk = f.image(filepath.Join(t.TempDir(), "next.tart"), "next disk")
	_, notes := f.start()
	f.stop()
	if !strings.HasPrefix(f.read(f.vm("disk.img")), "next disk") || !strings.Contains(notes, "the image changed: Tart's VM is made again, data stays") {
		t.Errorf("another image: %s", notes)
	}
}

// TestDriver_Faults: each is detected and named, and no half a VM is left.
func TestDriver_Faults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(f *fixture)
		want  string
	}{
		"one processor":      {func(f *fixture) { f.Config.CPUs = 1 }, "1 cpus: give at least 2"},
		"amd64":              {func(f *fixture) { f.Config.Architecture = "amd64" }, `architecture "amd64": use one of [arm64]`},
		"colon in share":     {nil, ""},
		"missing share":      {func(f *fixture) { f.Config.ShareDir = "/nonexistent" }, "/nonexistent"},
		"colon in instances": {func(f *fixture) { f.Host.Dir += ":" }, "has a colon, at which Tart takes its options apart"},
		"another's VM":       {func(f *fixture) { f.image(f.vm(""), "precious") }, "Tart has a VM one that Rockpool did not make"},
		"odd disk":           {func(f *fixture) { f.write(filepath.Join(f.Config.Image.Disk, "disk.img"), "odd") }, "has 3 bytes: a disk is a multiple of 512"},
		"no variables":       {func(f *fixture) { os.Remove(filepath.Join(f.Config.Image.Disk, "nvram.bin")) }, "it has no nvram.bin, so it is no VM of Tart's"},
		"no image":           {func(f *fixture) { os.RemoveAll(f.Config.Image.Disk) }, "rockpool up --image DIR"},
		"wrong digest":       {func(f *fixture) { f.Config.Image.SHA256 = strings.Repeat("0", 64) }, "is corrupt (it is not what its manifest describes)"},
		"no Tart":            {func(f *fixture) { f.driver.Program.Argv = []string{"/nonexistent/tart"} }, "/nonexistent/tart"},
		"path as a name":     {func(f *fixture) { f.driver.VM = "../one" }, "is no name of a VM"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, standin.GuestStub)
			if name == "colon in share" {
				f.Config.ShareDir = filepath.Join(t.TempDir(), "a:b")
				c.want = f.Config.ShareDir + " has a colon"
				if err := os.Mkdir(f.Config.ShareDir, 0o755); err != nil {
					t.Fatal(err)
				}
			} else {
				c.spoil(f)
			}
			before, _ := filepath.Glob(filepath.Join(f.home, "vms", "*"))
			_, err := f.Host.Start(t.Context(), f.Config, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("start: %v, want it to say %q", err, c.want)
			}
			if after, _ := filepath.Glob(filepath.Join(f.home, "vms", "*")); len(after) != len(before) {
				t.Errorf("left behind: %v", after)
			}
		})
	}
}

// TestDriver_Running: a VM that the user runs by hand is left alone.
func TestDriver_Running(t *testing.T) {
	t.Parallel()
	f := newFixture(t, standin.GuestStub).destroyed()
	f.start()
	f.stop()
	self, _ := os.Executable()
	cmd := exec.Command(self, "as-tart", "run", "one", "--no-graphics")
	cmd.Env = append(os.Environ(), "TART_HOME="+f.home)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Signal(os.Interrupt)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(f.vm("control.sock")); err == nil {
			break
		}
	}
	if _, err := f.Host.Start(t.Context(), f.Config, nil); err == nil || !strings.Contains(err.Error(), "end it with `tart stop one`") {
		t.Errorf("start: %v", err)
	}
}

// TestDriver_Mended: what a cut-off run or another VM left is put right, and
// said.
func TestDriver_Mended(t *testing.T) {
	t.Parallel()
	f := newFixture(t, standin.GuestStub).destroyed()
	f.start()
	f.stop()

	// A socket that nobody listens at.
	dir, err := os.Open(f.vm(""))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	l, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/control.sock", dir.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	// Tart drew another address.
	f.write(f.vm("config.json"), strings.ReplaceAll(f.read(f.vm("config.json")), mac, "7a:00:00:00:00:02"))

	_, notes := f.start()
	if want := "the MAC address of Tart's VM one is now 7a:00:00:00:00:02, no longer " + mac; !strings.Contains(notes, want) {
		t.Errorf("notes %q, want %q", notes, want)
	}
	if log := f.read(filepath.Join(f.Host.Dir, "one", "supervisor.log")); !strings.Contains(log, "a stale control.sock of a run that was cut off was removed") {
		t.Errorf("the stale socket is not named: %s", log)
	}
	f.stop()

	_, notes = f.start()
	if strings.Contains(notes, "MAC") {
		t.Errorf("the same address is named again: %q", notes)
	}
	f.stop()

	os.Remove(f.vm("nvram.bin"))
	if _, notes = f.start(); !strings.Contains(notes, "Tart's VM was damaged and is made again, data stays") {
		t.Errorf("notes %q", notes)
	}
	f.stop()
}

// TestDriver_LongPath: a path of the control socket that is too long for macOS
// is named, and works where Tart makes it.
func TestDriver_LongPath(t *testing.T) {
	t.Parallel()
	f := newFixture(t, standin.GuestStub)
	f.driver.Program.Home = filepath.Join(f.home, strings.Repeat("long", 20))
	f.home = f.driver.Program.Home
	f.destroyed()
	_, notes := f.start()
	if !strings.Contains(notes, "more than the 103 that macOS takes") {
		t.Errorf("notes %q", notes)
	}
	conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", f.Config.Ports.Dashboard))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	vmtest.Echo(t, conn.(*net.TCPConn))
	f.stop()
}

// TestDriver_Refused: a port at which nobody in the guest listens breaks the
// connection.
func TestDriver_Refused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, standin.GuestStub).destroyed()
	f.Config.Ports.IDE = vmtest.FreePort(t)
	f.start()
	conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", f.Config.Ports.IDE))
	if err == nil { // it may be broken before it is known to be there
		defer conn.Close()
		_, err = io.ReadAll(conn)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("not a broken connection, but %v", err)
	}
	f.stop()
}
