package host

import (
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		writeFile(t, path, got)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
	}
}

func TestAutostart_Rendered(t *testing.T) {
	config := vm.Config{
		Memory: 8 * vm.GiB, CPUs: 4, DataSize: 40 * vm.GiB, Boot: vm.BootKernel, Accel: vm.Auto, Share: vm.ShareNone,
		Ports: guest.Ports{SSH: 2222, Dashboard: 8080, IDE: 8081, Preview: 8082},
	}
	settings := Settings{StateDir: "/home/u/.local/state/rockpool-root-vm", CacheDir: "/home/u/.cache/rockpool-root-vm", QEMU: qemuAuto}
	settings.VM.Name = "rockpool-root"
	plain := autostartOf("/usr/local/bin/rockpool", settings, config)
	settings = Settings{StateDir: "/a b/100%/$state", CacheDir: "/c", QEMU: qemuBundled}
	settings.VM.Name = "other"
	odd := autostartOf(`/home/a b/100%/$x/"q"/<&>/rockpool`, settings, vm.Config{Ports: guest.Ports{SSH: 3333}})
	for name, unit := range map[string]autostart{"plain": plain, "odd": odd} {
		golden(t, "autostart-"+name+".service", systemdUnit(unit))
		golden(t, "autostart-"+name+".plist", launchdAgent(unit))
	}
}

// TestAutostart_SystemdVerifies has systemd itself read the service, where there
// is one.
func TestAutostart_SystemdVerifies(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd on this host: ", err)
	}
	program := filepath.Join(t.TempDir(), "a $program of 100%")
	writeFile(t, program, "#!/bin/sh\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}

	settings := Settings{StateDir: "/a b/100%/$state", CacheDir: "/c", QEMU: qemuBundled}
	settings.VM.Name = "other"
	unit := filepath.Join(t.TempDir(), "rockpool-other.service")
	writeFile(t, unit, systemdUnit(autostartOf(program, settings, vm.Config{Memory: vm.GiB})))
	verify := exec.CommandContext(t.Context(), analyze, "--user", "verify", "--man=no", unit)
	verify.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
	if out, err := verify.CombinedOutput(); err != nil || strings.Contains(string(out), filepath.Base(unit)) {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

// TestAutostart_SlowMachineRunsOn: a guest that is not ready in time is no
// failed service, whose processes systemd would end.
func TestAutostart_SlowMachineRunsOn(t *testing.T) {
	unit := autostartOf("/rockpool", Settings{StateDir: "/s", CacheDir: "/c"}, vm.Config{})
	wait := slices.Index(unit.Start, "--wait")
	if wait < 0 || unit.Start[wait+1] != "600" {
		t.Errorf("waits as %q says", unit.Start)
	}
	rendered := systemdUnit(unit)
	for _, line := range []string{"SuccessExitStatus=1", "TimeoutStartSec=infinity", "RemainAfterExit=yes"} {
		if !strings.Contains(rendered, "\n"+line+"\n") {
			t.Errorf("the service lacks %s:\n%s", line, rendered)
		}
	}
}

// TestAutostart_PlistIsXML reads the arguments back.
func TestAutostart_PlistIsXML(t *testing.T) {
	unit := autostart{Instance: "x", Start: []string{"/a <b>&\"c\"", "--d"}}
	var list struct {
		Arguments []string `xml:"dict>array>string"`
	}
	if err := xml.Unmarshal([]byte(launchdAgent(unit)), &list); err != nil || len(list.Arguments) != 2 || list.Arguments[0] != unit.Start[0] {
		t.Errorf("read %q, %v", list.Arguments, err)
	}
}

// TestLastingName: the service starts the program by the name that an update
// keeps, not by the file that a link leads to today.
func TestLastingName(t *testing.T) {
	dir := t.TempDir()
	self, other := filepath.Join(dir, "versions", "1.0", "rockpool"), filepath.Join(dir, "other", "rockpool")
	link := filepath.Join(dir, "bin", "rockpool")
	for _, file := range []string{self, other} {
		writeFile(t, file, "#!/bin/sh\n")
		if err := os.Chmod(file, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Dir(link), 0o755), os.Symlink(self, link)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(link))
	t.Chdir(dir)

	for called, want := range map[string]string{
		"rockpool":     link,
		link:           link,
		"bin/rockpool": link,
		self:           self,
		other:          self,
		"absent":       self,
	} {
		if got := lastingName(called, self); got != want {
			t.Errorf("called as %s: %s, want %s", called, got, want)
		}
	}
}

func TestApp_Autostart(t *testing.T) {
	env := map[string]string{"ROCKPOOL_STATE": "state", "ROCKPOOL_CACHE": "/cache", "ROCKPOOL_QEMU": "bundled"}
	s, out := around(t, "", env)
	a := NewApp(Standalone(), s)
	if err := a.Load(s, nil, Emulating); err != nil {
		t.Fatal(err)
	}
	stoppedInstance(t, a, `{"name":"rockpool-root","memory":1073741824,"cpus":2,"ports":{"ssh":2222,"dashboard":8080}}`)
	var ran []string
	var fault error
	a.Packages.Run = func(_ context.Context, argv []string, out io.Writer) error {
		ran = append(ran, strings.Join(argv, " "))
		fmt.Fprintln(out, "words of the manager")
		return fault
	}
	path := filepath.Join(s.Dir, ".config/systemd/user/rockpool-rockpool-root.service")

	if err := a.Autostart(t.Context(), s, true); err != nil {
		t.Fatal(err)
	}
	unit, err := os.ReadFile(path)
	instance := " --name rockpool-root --state " + filepath.Join(s.Dir, "state") + " --cache /cache"
	for _, command := range []string{
		" vm start" + instance + " --memory 1073741824 --cpus 2 --ssh-port 2222 --web-port 8080 --qemu bundled --wait 600\n",
		" down" + instance + "\n",
	} {
		if err != nil || !strings.Contains(string(unit), command) {
			t.Errorf("unit %q, %v; want it to run %q", unit, err, command)
		}
	}
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	want := "systemctl --user daemon-reload|systemctl --user enable rockpool-rockpool-root.service|loginctl show-user --property=Linger --value " + self.Username + "|loginctl enable-linger"
	if strings.Join(ran, "|") != want {
		t.Errorf("ran %q, want %q", ran, want)
	}

	ran, fault = nil, errors.New("exit status 1")
	if err := a.Autostart(t.Context(), s, false); err == nil || !strings.Contains(err.Error(), "words of the manager") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the unit went though it could not be disabled: %v", err)
	}

	fault = nil
	if err := a.Autostart(t.Context(), s, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil || ran[len(ran)-1] != "systemctl --user disable rockpool-rockpool-root.service" {
		t.Errorf("ran %q; the unit: %v", ran, err)
	}
	if err := a.Autostart(t.Context(), s, false); err != nil || !strings.Contains(out.String(), "does not start with this host") {
		t.Errorf("again: %v\n%s", err, out)
	}
}

// TestApp_AutostartLingers: a host without polkit lets nobody but root have a
// user's services run without a login. The error says what root is to do, and
// once that is done nobody is asked again.
func TestApp_AutostartLingers(t *testing.T) {
	a, _ := app(t, Standalone(), "", nil)
	lingers := "no"
	a.Packages.Run = func(_ context.Context, argv []string, out io.Writer) error {
		switch {
		case argv[0] != "loginctl":
			return nil
		case argv[1] == "show-user":
			fmt.Fprintln(out, lingers)
			return nil
		}
		fmt.Fprintln(out, "Could not enable linger: Access denied")
		return errors.New("exit status 1")
	}
	unit := autostartOf("/rockpool", a.Settings, vm.Config{})
	path := filepath.Join(t.TempDir(), "rockpool.service")

	err := a.autostartOn(t.Context(), systemd(), unit, path)
	if err == nil || !strings.Contains(err.Error(), "Access denied") || !strings.Contains(err.Error(), "sudo loginctl enable-linger ") {
		t.Errorf("error %v, want one that says what root is to do", err)
	}

	lingers = "yes"
	if err := a.autostartOn(t.Context(), systemd(), unit, path); err != nil {
		t.Errorf("for a user whose services run without a login already: %v", err)
	}
}

// TestApp_AutostartOnLaunchd: launchd bootstraps no job that it holds, and boots
// out none that it does not.
func TestApp_AutostartOnLaunchd(t *testing.T) {
	a, _ := app(t, Standalone(), "", nil)
	held := false
	var ran []string
	a.Packages.Run = func(_ context.Context, argv []string, _ io.Writer) error {
		wants := map[string]bool{"bootstrap": false, "bootout": true, "print": true}[argv[1]]
		if argv[1] != "print" {
			ran = append(ran, argv[1])
		}
		if held != wants {
			return fmt.Errorf("launchctl %s: exit status 113", argv[1])
		}
		if argv[1] != "print" {
			held = !held
		}
		return nil
	}

	manager := launchd()
	unit := autostartOf("/rockpool", a.Settings, vm.Config{})
	path := filepath.Join(t.TempDir(), manager.file(unit))
	turn := func(on bool, want string) {
		t.Helper()
		ran = nil
		verb := a.autostartOff
		if on {
			verb = a.autostartOn
		}
		if err := verb(t.Context(), manager, unit, path); err != nil {
			t.Error(err)
		}
		if got := strings.Join(ran, " "); got != want {
			t.Errorf("ran %q, want %q", got, want)
		}
		if _, err := os.Stat(path); (err == nil) != on || held != on {
			t.Errorf("on: %v; the file: %v; held: %v", on, err, held)
		}
	}

	turn(true, "bootstrap")
	turn(true, "bootout bootstrap")
	turn(false, "bootout")
	turn(true, "bootstrap")
	held = false // as in a session that began before the file was there
	turn(false, "")
	turn(false, "")
}

// TestApp_DestroyAutostart: a destroyed instance leaves no service that fails at
// each boot, and takes none from an instance of its name elsewhere.
func TestApp_DestroyAutostart(t *testing.T) {
	for _, manager := range []serviceManager{systemd(), launchd()} {
		unit := autostartOf("/rockpool", Settings{StateDir: "/a <b>"}, vm.Config{})
		if !strings.Contains(manager.render(unit), manager.words([]string{"--state", "/a <b>"})) {
			t.Errorf("the words are not those of\n%s", manager.render(unit))
		}
	}

	s, out := around(t, "", nil)
	load := func() *App {
		t.Helper()
		a := NewApp(mage(), s)
		if err := a.Load(s, nil); err != nil {
			t.Fatal(err)
		}
		return a
	}
	a, elsewhere := load(), load()
	elsewhere.Settings.StateDir = strings.TrimSuffix(a.Settings.StateDir, "m") // its path begins like the other
	var fault error
	a.Packages.Run = func(context.Context, []string, io.Writer) error { return fault }
	elsewhere.Packages.Run = a.Packages.Run
	if err := a.DestroyAutostart(t.Context(), s); err != nil || out.Len() > 0 {
		t.Errorf("without a service: %v\n%s", err, out)
	}

	stoppedInstance(t, a, `{"name":"rockpool-root"}`)
	if err := a.Autostart(t.Context(), s, true); err != nil {
		t.Fatal(err)
	}
	path, err := thisServiceManager().path(autostart{Instance: "rockpool-root"}, s)
	if err != nil {
		t.Fatal(err)
	}
	there := func(what string, want bool) {
		t.Helper()
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: the service: %v", what, err)
		}
	}
	there("on", true)
	if err := elsewhere.DestroyAutostart(t.Context(), s); err != nil {
		t.Error(err)
	}
	there("destroyed elsewhere", true)

	fault = errors.New("exit status 1")
	if err := a.DestroyAutostart(t.Context(), s); err == nil || !strings.Contains(err.Error(), "`rockpool vm autostart off --name rockpool-root`") {
		t.Errorf("error %v", err)
	}
	there("a manager that cannot", true)
	fault = nil
	if err := a.DestroyAutostart(t.Context(), s); err != nil {
		t.Error(err)
	}
	there("destroyed", false)
}
