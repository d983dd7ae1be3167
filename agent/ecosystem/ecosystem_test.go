package ecosystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/guest"
)

// machine is a VM's systemd and PM2 that write down what they are asked.
type machine struct {
	Ecosystem
	t     *testing.T
	calls []string
	state string // of the unit
	list  string // what pm2 jlist prints
	fail  map[string]error
}

func newMachine(t *testing.T, files ...string) *machine {
	m := &machine{t: t, state: "inactive", list: "[]", fail: map[string]error{}}
	m.Ecosystem = Ecosystem{
		Share: t.TempDir(), Dir: t.TempDir(),
		BootID: func() (string, error) { return "this-boot", nil },
		Run:    m.run,
	}
	for _, name := range files {
		m.write(filepath.Join(m.Share, name), "{}")
	}
	return m
}

func (m *machine) write(path, content string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) run(_ context.Context, _ []string, name string, args ...string) ([]byte, error) {
	call := strings.Join(append([]string{filepath.Base(name)}, args...), " ")
	switch call {
	case "systemctl show --value -p ActiveState rockpool-ecosystem.service":
		return []byte(m.state + "\n"), nil
	case "systemctl show --value -p InvocationID rockpool-ecosystem.service":
		return []byte("0123\n"), nil
	case "pm2 jlist":
		return []byte(m.list), nil
	}

	m.calls = append(m.calls, call)
	if err := m.fail[call]; err != nil {
		return nil, err
	}
	switch call {
	case "sudo -n systemctl start rockpool-ecosystem.service":
		m.state = "active"
	case "sudo -n systemctl stop rockpool-ecosystem.service":
		m.state = "inactive"
	case "journalctl --no-pager -o cat -n 30 _SYSTEMD_INVOCATION_ID=0123":
		return []byte("\x1b[31m[PM2][ERROR]\x1b[39m Script not found: /mnt/rockpool/api.js\n"), nil
	}
	return nil, nil
}

// count is how often a command was run.
func (m *machine) count(words string) int {
	n := 0
	for _, call := range m.calls {
		if strings.HasSuffix(call, words) {
			n++
		}
	}
	return n
}

func TestEcosystem_Start(t *testing.T) {
	m := newMachine(t, "ecosystem.config.cjs", "sub/other.config.js", "sub/.env")
	start := func(want guest.Ecosystem) {
		t.Helper()
		if err := m.Start(t.Context(), want); err != nil {
			t.Fatal(err)
		}
	}

	start(guest.Ecosystem{})
	now, err := m.read()
	if err != nil || now == nil || now.File != "ecosystem.config.cjs" || now.BootID != "this-boot" {
		t.Fatalf("it runs %+v, %v", now, err)
	}
	start(guest.Ecosystem{}) // undisturbed
	if n := m.count("start " + guest.EcosystemUnit); n != 1 || m.count("stop "+guest.EcosystemUnit) != 0 {
		t.Errorf("calls are %q", m.calls)
	}
	start(guest.Ecosystem{File: "sub/other.config.js", EnvFile: "sub/.env", Restore: true})
	if m.count("stop "+guest.EcosystemUnit) != 1 || m.count("start "+guest.EcosystemUnit) != 2 || m.count("pm2 save") != 1 {
		t.Errorf("calls are %q", m.calls)
	}

	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now, err := m.read(); err != nil || now != nil {
		t.Errorf("after the stop there is %+v, %v", now, err)
	}
	if err := m.Stop(t.Context()); err != nil {
		t.Errorf("nothing to stop: %v", err)
	}
}

func TestEcosystem_Start_refused(t *testing.T) {
	for name, tt := range map[string]struct {
		want guest.Ecosystem
		code string
		says string
	}{
		"none":             {guest.Ecosystem{}, agent.CodeNotFound, "--ecosystem"},
		"not there":        {guest.Ecosystem{File: "a.config.js"}, agent.CodeNotFound, "a.config.js"},
		"a script":         {guest.Ecosystem{File: "api.js"}, agent.CodeValidation, ".config.js"},
		"outside":          {guest.Ecosystem{File: "../x.config.js"}, agent.CodeValidation, "inside the shared project"},
		"absolute":         {guest.Ecosystem{File: "/etc/x.json"}, agent.CodeValidation, "inside the shared project"},
		"a directory":      {guest.Ecosystem{File: "dir.json"}, agent.CodeValidation, "not a file"},
		"no variables":     {guest.Ecosystem{File: "my.json", EnvFile: ".env"}, agent.CodeNotFound, ".env"},
		"variables beyond": {guest.Ecosystem{File: "my.json", EnvFile: "../.env"}, agent.CodeValidation, "inside the shared project"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, "api.js", "my.json", "dir.json/x")
			err := m.Start(t.Context(), tt.want)
			if agent.ErrorCode(err) != tt.code || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v", err)
			}
			if len(m.calls) != 0 {
				t.Errorf("calls are %q", m.calls)
			}
		})
	}
}

// TestEcosystem_Start_fails: PM2's words are told, and nothing stays.
func TestEcosystem_Start_fails(t *testing.T) {
	m := newMachine(t, "pm2.json")
	m.fail["sudo -n systemctl start rockpool-ecosystem.service"] = errors.New("exit status 1")
	err := m.Start(t.Context(), guest.Ecosystem{})
	if err == nil || !strings.Contains(err.Error(), "[PM2][ERROR] Script not found: /mnt/rockpool/api.js") {
		t.Errorf("got %v", err)
	}
	if now, err := m.read(); err != nil || now != nil || m.count("stop "+guest.EcosystemUnit) != 1 {
		t.Errorf("there is %+v, %v; calls are %q", now, err, m.calls)
	}
}

// TestEcosystem_Start_stray: a PM2 of a shell in the VM would be taken for the
// unit's.
func TestEcosystem_Start_stray(t *testing.T) {
	m := newMachine(t, "pm2.json")
	m.write(filepath.Join(m.home(), "pm2.pid"), fmt.Sprint(os.Getpid())) // of another program by now
	if err := m.Start(t.Context(), guest.Ecosystem{}); err != nil {
		t.Errorf("a number of before: %v", err)
	}
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	daemon := exec.Command("sleep", "600")
	daemon.Args = []string{"PM2 v7.0.4: God Daemon", "600"}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer daemon.Wait()
	defer daemon.Process.Kill()
	for name := ""; !strings.Contains(name, "God Daemon"); { // its name is there a moment after it began
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", daemon.Process.Pid))
		if name = string(b); err != nil || t.Context().Err() != nil {
			t.Fatalf("the daemon's name is %q, %v", name, err)
		}
	}
	m.write(filepath.Join(m.home(), "pm2.pid"), fmt.Sprint(daemon.Process.Pid))
	if err := m.Start(t.Context(), guest.Ecosystem{}); agent.ErrorCode(err) != agent.CodeConflict || !strings.Contains(err.Error(), "pm2 kill") {
		t.Errorf("got %v", err)
	}
}

func TestEcosystem_Launch(t *testing.T) {
	m := newMachine(t)
	if _, _, err := m.Launch(); err == nil {
		t.Error("nothing was launched")
	}
	launch := func(now guest.Ecosystem) string {
		t.Helper()
		if err := m.Ecosystem.write(now); err != nil {
			t.Fatal(err)
		}
		argv, _, err := m.Launch()
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(strings.Join(argv, " "), m.Share, "/mnt/rockpool")
	}
	wanted := func(want bool) {
		t.Helper()
		if got, err := m.Wanted(); err != nil || got != want {
			t.Errorf("wanted is %v, %v", got, err)
		}
	}

	wanted(false)
	if got := launch(guest.Ecosystem{File: "a.json", BootID: "this-boot"}); got != "/usr/local/bin/node /usr/local/bin/pm2 start /mnt/rockpool/a.json" {
		t.Errorf("command %q", got)
	}
	wanted(true)
	if got := launch(guest.Ecosystem{File: "a.json", EnvFile: "sub/.env", BootID: "this-boot"}); got != "/usr/local/bin/node --env-file=/mnt/rockpool/sub/.env /usr/local/bin/pm2 start /mnt/rockpool/a.json" {
		t.Errorf("command %q", got)
	}
	launch(guest.Ecosystem{File: "a.json", BootID: "the boot before"})
	wanted(false)
	m.write(filepath.Join(m.home(), "dump.pm2"), "[]")
	if got := launch(guest.Ecosystem{File: "a.json", Restore: true, BootID: "the boot before"}); got != "/usr/local/bin/node /usr/local/bin/pm2 resurrect" {
		t.Errorf("command %q", got)
	}
	wanted(true)

	env := m.Environment([]string{"PATH=/bin", "INVOCATION_ID=1", "HOME=/home/admin"})
	if !slices.Equal(env, []string{"PATH=/bin", "HOME=/home/admin", "PM2_HOME=" + m.home(), "PM2_DISCRETE_MODE=true"}) {
		t.Errorf("environment %q", env)
	}
}

func TestEcosystem_Status(t *testing.T) {
	m := newMachine(t, "pm2.json")
	if s, err := m.Status(t.Context()); err != nil || s.Running() || s.Ecosystem != nil || s.Processes == nil {
		t.Errorf("before anything: %+v, %v", s, err)
	}
	if err := m.Start(t.Context(), guest.Ecosystem{}); err != nil {
		t.Fatal(err)
	}
	m.list = "\n>>>> In-memory PM2 is out-of-date\n" + `[{"name":"api","pid":7,"pm2_env":{"status":"online","restart_time":3,"pm_uptime":1700000000000},"monit":{"memory":1048576,"cpu":1.5}}]` + "\n"
	s, err := m.Status(t.Context())
	want := guest.EcosystemProcess{Name: "api", Status: "online", PID: 7, Restarts: 3, Since: 1700000000000, CPU: 1.5, Memory: 1 << 20}
	if err != nil || !s.Running() || s.Ecosystem.File != "pm2.json" || len(s.Processes) != 1 || s.Processes[0] != want {
		t.Errorf("got %+v, %v", s, err)
	}
	m.list = "PM2 is confused"
	if _, err := m.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "confused") {
		t.Errorf("got %v", err)
	}
}
