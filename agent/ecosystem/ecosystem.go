package ecosystem

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/guest"
)

// Programs that it runs.
const (
	nodeProgram = "/usr/local/bin/node"
	pm2Script   = "/usr/local/bin/pm2" // a link to JavaScript
)

// Ecosystem is the one that the VM runs, if any. [New] makes it.
type Ecosystem struct {
	Share  string // the shared directory
	Dir    string // guest.EcosystemDir
	BootID func() (string, error)

	// Run runs a program and returns what it wrote: on success to its stdout, on
	// failure an error with what it wrote to stderr.
	Run func(ctx context.Context, env []string, name string, args ...string) ([]byte, error)
}

// New is the ecosystem of this VM.
func New() Ecosystem {
	return Ecosystem{Share: guest.ShareDir, Dir: guest.EcosystemDir, BootID: bootID, Run: run}
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

func run(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s: %w: %s", filepath.Base(name), err, strings.TrimSpace(said.String()))
	}
	return out.Bytes(), nil
}

func (e Ecosystem) home() string { return filepath.Join(e.Dir, filepath.Base(guest.EcosystemHome)) }
func (e Ecosystem) file() string { return filepath.Join(e.Dir, filepath.Base(guest.EcosystemFile)) }

// variables are the environment by which PM2 finds its home.
func (e Ecosystem) variables() []string {
	return []string{"PM2_HOME=" + e.home(), "PM2_DISCRETE_MODE=true"}
}

// pm2 runs a command of PM2's.
func (e Ecosystem) pm2(ctx context.Context, args ...string) ([]byte, error) {
	return e.Run(ctx, e.variables(), pm2Script, args...)
}

// usualNames are what PM2 itself and its users call the file.
var usualNames = []string{
	"ecosystem.config.js", "ecosystem.config.cjs", "ecosystem.config.mjs", "ecosystem.json", "ecosystem.yml", "ecosystem.yaml",
	"pm2.config.js", "pm2.config.cjs", "pm2.json", "process.json",
}

// endings are what PM2 takes for a file of that kind and not for a script
// (knonwConfigFileExtensions in its lib/Common.js).
var endings = []string{".json", ".yml", ".yaml", ".config.js", ".config.cjs", ".config.mjs"}

// check finds the file where none is named, and refuses what cannot be run.
func (e Ecosystem) check(want guest.Ecosystem) (guest.Ecosystem, error) {
	if want.File == "" {
		i := slices.IndexFunc(usualNames, func(name string) bool { return e.regular(name) == nil })
		if i < 0 {
			return want, agent.Errorf(agent.CodeNotFound, "The shared project has none of PM2's usual files (%s): name it with --ecosystem", strings.Join(usualNames[:3], ", "))
		}
		want.File = usualNames[i]
	}
	if !slices.ContainsFunc(endings, func(ending string) bool { return strings.HasSuffix(want.File, ending) }) {
		return want, agent.Errorf(agent.CodeValidation, "%s is not a name that PM2 takes for an ecosystem file: it has to end in %s", want.File, strings.Join(endings, ", "))
	}

	for _, name := range []string{want.File, want.EnvFile} {
		if name == "" {
			continue
		}
		if !filepath.IsLocal(name) {
			return want, agent.Errorf(agent.CodeValidation, "%s has to be a path inside the shared project, relative to it", name)
		}
		if err := e.regular(name); err != nil {
			return want, err
		}
	}
	return want, nil
}

// regular reports why a name of the project is no file.
func (e Ecosystem) regular(name string) error {
	info, err := os.Stat(filepath.Join(e.Share, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return agent.Errorf(agent.CodeNotFound, "The shared project has no %s", name)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return agent.Errorf(agent.CodeValidation, "%s is not a file", name)
	}
	return nil
}

// read returns what was started last and not stopped since; nil for nothing.
func (e Ecosystem) read() (*guest.Ecosystem, error) {
	b, err := os.ReadFile(e.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var now guest.Ecosystem
	if err == nil {
		err = json.Unmarshal(b, &now)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", e.file(), err)
	}
	return &now, nil
}

func (e Ecosystem) write(now guest.Ecosystem) error {
	b, err := json.Marshal(now)
	if err == nil {
		err = renameio.WriteFile(e.file(), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", e.file(), err)
	}
	return nil
}

// Start runs an ecosystem, in the place of another one. One that runs already
// as it is asked for goes on undisturbed.
func (e Ecosystem) Start(ctx context.Context, want guest.Ecosystem) error {
	want, err := e.check(want)
	if err != nil {
		return err
	}
	if want.BootID, err = e.BootID(); err != nil {
		return err
	}
	state, err := e.unit(ctx, "ActiveState")
	if err != nil {
		return err
	}

	if state == "inactive" || state == "failed" {
		if pid := e.strayPM2(); pid != 0 {
			return agent.Errorf(agent.CodeConflict, "PM2 was started by hand in the VM (pid %d): end it there with `pm2 kill`, then start again", pid)
		}
	} else {
		if now, err := e.read(); err == nil && now != nil && *now == want && state == "active" {
			return nil
		}
		if err := e.Stop(ctx); err != nil {
			return err
		}
	}

	if err := e.write(want); err != nil {
		return err
	}
	if _, err := e.systemctl(ctx, "start", guest.EcosystemUnit); err != nil {
		err = e.failure(ctx, err)
		return errors.Join(err, e.Stop(context.WithoutCancel(ctx)))
	}
	if want.Restore {
		if _, err := e.pm2(ctx, "save"); err != nil {
			return err
		}
	}
	return nil
}

// styles are colours and the like (ECMA-48, SGR), which PM2 writes everywhere.
var styles = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// failure is why a start failed, in PM2's words where it has some.
func (e Ecosystem) failure(ctx context.Context, err error) error {
	id, idErr := e.unit(ctx, "InvocationID")
	if idErr != nil || id == "" {
		return err
	}
	said, logErr := e.Run(ctx, nil, "journalctl", "--no-pager", "-o", "cat", "-n", "30", "_SYSTEMD_INVOCATION_ID="+id)
	if text := strings.TrimSpace(string(styles.ReplaceAll(said, nil))); logErr == nil && text != "" {
		return fmt.Errorf("PM2 did not start it:\n%s", text)
	}
	return err
}

// Stop ends all processes of the ecosystem, and PM2. It succeeds when nothing
// runs.
func (e Ecosystem) Stop(ctx context.Context) error {
	if _, err := e.systemctl(ctx, "stop", guest.EcosystemUnit); err != nil {
		return err
	}
	_, _ = e.systemctl(ctx, "reset-failed", guest.EcosystemUnit) // it fails for a unit that did not
	if err := os.Remove(e.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// systemctl runs systemctl(1) as root.
func (e Ecosystem) systemctl(ctx context.Context, args ...string) ([]byte, error) {
	return e.Run(ctx, nil, "sudo", append([]string{"-n", "systemctl"}, args...)...)
}

// unit returns a property of the unit.
func (e Ecosystem) unit(ctx context.Context, property string) (string, error) {
	out, err := e.Run(ctx, nil, "systemctl", "show", "--value", "-p", property, guest.EcosystemUnit)
	return strings.TrimSpace(string(out)), err
}

// strayPM2 returns the process of a PM2 that runs outside the unit, which does
// not run.
func (e Ecosystem) strayPM2() int {
	b, err := os.ReadFile(filepath.Join(e.home(), "pm2.pid"))
	pid, numberErr := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || numberErr != nil || pid <= 0 {
		return 0
	}
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !bytes.HasPrefix(title, []byte("PM2 ")) { // another process has the number by now
		return 0
	}
	return pid
}

// Wanted reports whether the unit may start now: the ecosystem was started in
// this boot, or is to be restored after one.
func (e Ecosystem) Wanted() (bool, error) {
	now, err := e.read()
	if err != nil || now == nil {
		return false, err
	}
	boot, err := e.BootID()
	return err == nil && (now.Restore || now.BootID == boot), err
}

// Launch returns the command that the unit is: PM2, which goes on in the
// background once it has started all processes.
func (e Ecosystem) Launch() (argv []string, now guest.Ecosystem, err error) {
	asked, err := e.read()
	if err != nil {
		return nil, now, err
	}
	if asked == nil {
		return nil, now, agent.Errorf(agent.CodeConflict, "no ecosystem was started")
	}
	boot, err := e.BootID()
	if err != nil {
		return nil, *asked, err
	}

	// Node reads the file and PM2 hands on what it has itself.
	argv = []string{nodeProgram}
	if asked.EnvFile != "" {
		argv = append(argv, "--env-file="+filepath.Join(e.Share, asked.EnvFile))
	}
	argv = append(argv, pm2Script)
	if _, err := os.Stat(filepath.Join(e.home(), "dump.pm2")); err == nil && asked.BootID != boot {
		return append(argv, "resurrect"), *asked, nil
	}
	return append(argv, "start", filepath.Join(e.Share, asked.File)), *asked, nil
}

// Environment is that of PM2 and its processes, made of the unit's, of which
// systemd's own words are none of their business.
func (e Ecosystem) Environment(unit []string) []string {
	own := []string{"INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "PIDFILE", "MANAGERPID"}
	env := slices.DeleteFunc(slices.Clone(unit), func(s string) bool {
		name, _, _ := strings.Cut(s, "=")
		return slices.Contains(own, name)
	})
	return append(env, e.variables()...)
}

// Status tells what runs.
func (e Ecosystem) Status(ctx context.Context) (guest.EcosystemStatus, error) {
	s := guest.EcosystemStatus{Processes: []guest.EcosystemProcess{}}
	var err error
	if s.Status, err = e.unit(ctx, "ActiveState"); err != nil {
		return s, err
	}
	if s.Ecosystem, err = e.read(); err != nil || !s.Running() {
		return s, err
	}
	list, err := e.list(ctx)
	for _, p := range list {
		s.Processes = append(s.Processes, guest.EcosystemProcess{
			Name: p.Name, PID: p.PID, Status: p.Env.Status, Restarts: p.Env.Restarts, Since: p.Env.Since, CPU: p.Monit.CPU, Memory: p.Monit.Memory,
		})
	}
	return s, err
}

// process is one of `pm2 jlist`, as far as it is of use here.
type process struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	Env  struct {
		Status   string `json:"status"`
		Restarts int    `json:"restart_time"`
		Since    int64  `json:"pm_uptime"`
		Out      string `json:"pm_out_log_path"`
		Err      string `json:"pm_err_log_path"`
	} `json:"pm2_env"`
	Monit struct {
		CPU    float64 `json:"cpu"`
		Memory int64   `json:"memory"`
	} `json:"monit"`
}

// list asks PM2, which must run: it would start itself otherwise.
func (e Ecosystem) list(ctx context.Context) ([]process, error) {
	out, err := e.pm2(ctx, "jlist")
	if err != nil {
		return nil, err
	}
	return parseList(out)
}

// parseList reads the output of `pm2 jlist`: a line of JSON, perhaps after lines
// for people.
func parseList(out []byte) ([]process, error) {
	for line := range bytes.Lines(out) {
		var list []process
		if bytes.HasPrefix(line, []byte("[")) && json.Unmarshal(line, &list) == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("pm2 jlist: no list in %q", out[:min(len(out), 200)])
}
