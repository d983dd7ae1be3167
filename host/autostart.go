package host

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/rockpool/rootvm/vm"
)

// autostart is an instance that the host starts and stops with itself.
type autostart struct {
	Instance string
	Start    []string // argument vector that starts it
	Stop     []string // argument vector that stops it, and returns when it is off
}

// serviceManager is what starts programs with the host, for one user.
type serviceManager struct {
	file   func(a autostart) string // name of the file, below dir
	render func(a autostart) string
	words  func(argv []string) string // as render has them
	dir    func(getenv func(string) string, home string) string
	enable func(a autostart, path string) [][]string // commands, in order
	linger bool                                      // the user's services have to be made to run without a login
	remove func(a autostart, path string) [][]string // before the file is removed

	// loaded returns a command that succeeds while the manager holds the
	// service apart from its file, as it was when it was enabled. Such a manager
	// neither enables a service twice nor ends one that it does not hold. Nil: a
	// manager that goes by the file, and takes either twice.
	loaded func(a autostart) []string
}

// Autostart has the host start the instance when it boots and stop it cleanly
// when it shuts down, or ends that. The instance is started as it was the last
// time: a later change of its memory or ports needs autostart to be set again.
func (a *App) Autostart(ctx context.Context, around Surroundings, on bool) error {
	inst, err := a.instances().Instance(a.Settings.VM.Name)
	if err != nil && (on || !errors.Is(err, vm.ErrNotFound)) {
		return err
	}
	manager := thisServiceManager()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program, which is to be started: %w", err)
	}
	program := lastingName(os.Args[0], self)

	unit := autostartOf(program, a.Settings, inst.Config)
	path, err := manager.path(unit, around)
	if err != nil {
		return err
	}
	if on {
		return a.autostartOn(ctx, manager, unit, path)
	}
	return a.autostartOff(ctx, manager, unit, path)
}

// DestroyAutostart removes the service that starts the instance with the host,
// once the instance is destroyed. A service of that name for an instance in
// another directory of state stays.
func (a *App) DestroyAutostart(ctx context.Context, around Surroundings) error {
	manager := thisServiceManager()
	unit := autostart{Instance: a.Settings.VM.Name}
	path, err := manager.path(unit, around)
	if err != nil {
		return nil // a user without a home has no services there
	}

	service, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read the service that starts %s with this host: %w", unit.Instance, err)
	case !strings.Contains(string(service), manager.words(append(instanceFlags(a.Settings), cacheFlag))):
		return nil
	}
	if err := a.endAutostart(ctx, manager, unit, path); err != nil {
		return fmt.Errorf("end that %s starts with this host, or run `%s` later: %w", unit.Instance, standaloneCommand(unit.Instance, "vm", "autostart", "off"), err)
	}
	a.printLine("%s starts with this host no more", unit.Instance)
	return nil
}

// path is that of the service's file.
func (m serviceManager) path(a autostart, around Surroundings) (string, error) {
	home, err := around.HomeDir()
	if err != nil {
		return "", fmt.Errorf("find the directory of the user's services: %w", err)
	}
	return filepath.Join(m.dir(around.Getenv, home), m.file(a)), nil
}

func (a *App) autostartOn(ctx context.Context, manager serviceManager, unit autostart, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the directory of the user's services: %w", err)
	}
	if err := renameio.WriteFile(path, []byte(manager.render(unit)), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if manager.loaded != nil && a.holds(ctx, manager, unit) {
		if err := a.manageAll(ctx, manager.remove(unit, path)); err != nil {
			return err
		}
	}
	if err := a.manageAll(ctx, manager.enable(unit, path)); err != nil {
		return err
	}
	if manager.linger {
		if err := a.lingers(ctx); err != nil {
			return err
		}
	}
	a.printLine("%s starts with this host, and stops cleanly with it (%s)", unit.Instance, path)
	return nil
}

func (a *App) autostartOff(ctx context.Context, manager serviceManager, unit autostart, path string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		a.printLine("%s does not start with this host", unit.Instance)
		return nil
	}
	if err := a.endAutostart(ctx, manager, unit, path); err != nil {
		return err
	}
	a.printLine("%s starts with this host no more; it goes on running until it is stopped", unit.Instance)
	return nil
}

// endAutostart removes the service, of which there is a file.
func (a *App) endAutostart(ctx context.Context, manager serviceManager, unit autostart, path string) error {
	if manager.loaded == nil || a.holds(ctx, manager, unit) {
		if err := a.manageAll(ctx, manager.remove(unit, path)); err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the service: %w", err)
	}
	return nil
}

// lastingName is the path by which the user called this program, whose file is
// self. os.Executable follows links, and what a link such as
// /usr/local/bin/rockpool leads to may be gone after an update.
func lastingName(called, self string) string {
	found, err := exec.LookPath(called)
	if err != nil {
		return self
	}
	path, err := filepath.Abs(found)
	if err != nil {
		return self
	}

	file, err := os.Stat(path)
	if err != nil {
		return self
	}
	own, err := os.Stat(self)
	if err != nil || !os.SameFile(file, own) {
		return self // another program of this name
	}
	return path
}

// holds asks a manager that has [serviceManager.loaded].
func (a *App) holds(ctx context.Context, manager serviceManager, unit autostart) bool {
	return a.Packages.Run(ctx, manager.loaded(unit), io.Discard) == nil
}

// manageAll runs commands of the service manager until one fails.
func (a *App) manageAll(ctx context.Context, commands [][]string) error {
	for _, argv := range commands {
		if err := a.manage(ctx, argv); err != nil {
			return err
		}
	}
	return nil
}

// lingers has systemd run the user's services from boot to shutdown, unless it
// does already. Users may ask for it themselves where polkit says so; a host
// without polkit lets only root, which the error says.
func (a *App) lingers(ctx context.Context) error {
	self, err := user.Current()
	if err != nil {
		return fmt.Errorf("find the user whose services are to run without a login: %w", err)
	}

	var lingers bytes.Buffer
	err = a.Packages.Run(ctx, []string{"loginctl", "show-user", "--property=Linger", "--value", self.Username}, &lingers)
	if err == nil && strings.TrimSpace(lingers.String()) == "yes" {
		return nil
	}

	var said bytes.Buffer
	if err := a.Packages.Run(ctx, []string{"loginctl", "enable-linger"}, &said); err != nil {
		return fmt.Errorf("loginctl enable-linger: %w: %s: run `sudo loginctl enable-linger %s` once, then this again",
			err, strings.TrimSpace(said.String()), self.Username)
	}
	return nil
}

// manage runs a command of the service manager, whose words are shown when it
// fails.
func (a *App) manage(ctx context.Context, argv []string) error {
	var out bytes.Buffer
	if err := a.Packages.Run(ctx, argv, &out); err != nil {
		return fmt.Errorf("%s: %w: %s: is this a login session of the user, not of sudo or su?", strings.Join(argv, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}

// autostartWait is how long a start with the host waits for the guest. It shares
// the processors with everything else that starts then.
const autostartWait = 10 * time.Minute

// cacheFlag follows [instanceFlags] in a service.
const cacheFlag = "--cache"

// instanceFlags tell the instance from every other of this host.
func instanceFlags(s Settings) []string {
	return []string{"--name", s.VM.Name, "--state", s.StateDir}
}

// autostartOf is what starts an instance as it is configured. Service managers
// start programs without the variables of the user's shell: what those set are
// flags here.
func autostartOf(program string, s Settings, c vm.Config) autostart {
	name := s.VM.Name
	instance := append(instanceFlags(s), cacheFlag, s.CacheDir)
	start := slices.Concat([]string{program, "vm", "start"}, instance)
	add := func(flag, value string) {
		if value != "" && value != "0" {
			start = append(start, flag, value)
		}
	}
	add("--memory", strconv.FormatInt(c.Memory, 10))
	add("--cpus", strconv.Itoa(c.CPUs))
	add("--data-size", strconv.FormatInt(c.DataSize, 10))
	add("--disk-size", strconv.FormatInt(c.DiskSize, 10))
	add("--ssh-port", strconv.Itoa(c.Ports.SSH))
	add("--web-port", strconv.Itoa(c.Ports.Dashboard))
	add("--share", c.Share)
	add("--boot", c.Boot)
	add("--accel", c.Accel)
	add("--qemu", s.QEMU)
	add("--wait", strconv.Itoa(int(autostartWait.Seconds())))
	return autostart{Instance: name, Start: start, Stop: slices.Concat([]string{program, "down"}, instance)}
}

// systemd is the manager of a user's services on Linux (systemd.service(5),
// systemd.unit(5)). Lingering has it run from boot to shutdown, without a login.
func systemd() serviceManager {
	const systemctl = "systemctl"
	return serviceManager{
		dir: func(getenv func(string) string, home string) string {
			config := getenv("XDG_CONFIG_HOME")
			if !filepath.IsAbs(config) {
				config = filepath.Join(home, ".config")
			}
			return filepath.Join(config, "systemd", "user")
		},
		file:   func(a autostart) string { return "rockpool-" + a.Instance + ".service" },
		render: systemdUnit,
		words:  systemdCommand,
		enable: func(a autostart, path string) [][]string {
			return [][]string{
				{systemctl, "--user", "daemon-reload"},
				{systemctl, "--user", "enable", filepath.Base(path)},
			}
		},
		linger: true,
		remove: func(a autostart, path string) [][]string {
			return [][]string{{systemctl, "--user", "disable", filepath.Base(path)}}
		},
	}
}

// systemdUnit renders the service. It is over when the guest serves, and counts
// as active until it is stopped, so that the stop comes before the user's other
// processes are ended.
//
// A start that fails, or that systemd finds late, has it end every process of the
// service, the supervisor among them, and with it a machine that was only slow.
// So a start has no limit but its own --wait, and its exit code 1, which it ends
// with when the guest is not ready in time, is a success: the machine runs on, and
// is stopped with the host. Wrong usage and an instance that is not there (2 and
// 3), when nothing runs, fail the service.
func systemdUnit(a autostart) string {
	return fmt.Sprintf(`[Unit]
Description=Rockpool Root VM %s

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=%s
ExecStop=%s
SuccessExitStatus=1
TimeoutStartSec=infinity
TimeoutStopSec=2min

[Install]
WantedBy=default.target
`, a.Instance, systemdCommand(a.Start), systemdCommand(a.Stop))
}

// systemdCommand quotes a command line by systemd.service(5), COMMAND LINES:
// percent and dollar signs are doubled, quotes and backslashes escaped. In the
// program's own path systemd replaces no variables.
func systemdCommand(argv []string) string {
	quote := strings.NewReplacer(`%`, `%%`, `\`, `\\`, `"`, `\"`)
	words := make([]string, len(argv))
	for i, word := range argv {
		words[i] = quote.Replace(word)
		if i > 0 {
			words[i] = strings.ReplaceAll(words[i], "$", "$$")
		}
		if words[i] != word || strings.ContainsAny(word, " \t';") {
			words[i] = `"` + words[i] + `"`
		}
	}
	return strings.Join(words, " ")
}

// launchd is the manager of a user's agents on macOS (launchd.plist(5)).
func launchd() serviceManager {
	domain := "gui/" + strconv.Itoa(os.Getuid())
	return serviceManager{
		dir:    func(_ func(string) string, home string) string { return filepath.Join(home, "Library", "LaunchAgents") },
		file:   func(a autostart) string { return launchdLabel(a) + ".plist" },
		render: launchdAgent,
		words:  launchdArguments,
		enable: func(a autostart, path string) [][]string {
			return [][]string{{"launchctl", "bootstrap", domain, path}}
		},
		remove: func(a autostart, _ string) [][]string {
			return [][]string{{"launchctl", "bootout", domain + "/" + launchdLabel(a)}}
		},
		loaded: func(a autostart) []string {
			return []string{"launchctl", "print", domain + "/" + launchdLabel(a)}
		},
	}
}

func launchdLabel(a autostart) string { return "dev.rockpool." + a.Instance }

// launchdAgent renders the agent's property list. launchd has no command for the
// stop: at a shutdown it signals the supervisor, which stops the machine cleanly.
// What the agent leaves running is not ended with it.
func launchdAgent(a autostart) string {
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>%s</string>
	<key>ProgramArguments</key>
	<array>
%s	</array>
	<key>RunAtLoad</key>
	<true/>
	<key>AbandonProcessGroup</key>
	<true/>
	<key>ProcessType</key>
	<string>Interactive</string>
</dict>
</plist>
`, xmlText(launchdLabel(a)), launchdArguments(a.Start))
}

func launchdArguments(argv []string) string {
	var arguments strings.Builder
	for _, word := range argv {
		fmt.Fprintf(&arguments, "\t\t<string>%s</string>\n", xmlText(word))
	}
	return arguments.String()
}

func xmlText(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
