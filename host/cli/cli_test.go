package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/host"
	"github.com/rockpool/rootvm/host/cli"
	"github.com/rockpool/rootvm/host/preflight"
)

// terminal is a user with an empty home directory.
type terminal struct {
	t       *testing.T
	home    string
	env     map[string]string
	answer  string
	program host.Program
}

func newTerminal(t *testing.T) *terminal {
	return &terminal{t: t, home: t.TempDir(), env: map[string]string{}, program: host.Standalone()}
}

// run runs a command line and returns its exit code and both outputs.
func (u *terminal) run(args ...string) (code int, out, errors string) {
	u.t.Helper()
	return u.runWith(u.t.Context(), args...)
}

func (u *terminal) runWith(ctx context.Context, args ...string) (code int, out, errors string) {
	var stdout, stderr bytes.Buffer
	code = cli.Run(ctx, args, u.program, host.Surroundings{
		In: strings.NewReader(u.answer), Out: &stdout, Err: &stderr,
		Getenv:  func(name string) string { return u.env[name] },
		HomeDir: func() (string, error) { return u.home, nil },
		Dir:     u.home,
	})
	return code, stdout.String(), stderr.String()
}

// verbs are all command lines that a user can call.
var verbs = []string{
	"up", "down", "doctor", "setup", "verify",
	"vm start", "vm stop", "vm ssh", "vm logs", "vm status", "vm password", "vm autostart", "vm destroy",
	"ws list", "ws create", "ws start", "ws stop", "ws rm", "ws logs", "ws open",
	"completion bash", "completion zsh", "completion fish",
}

func TestRun_HelpOfEachVerb(t *testing.T) {
	u := newTerminal(t)
	code, all, _ := u.run("--help")
	if code != 0 || !strings.Contains(all, "Exit codes: 0 success") {
		t.Errorf("--help: %d\n%s", code, all)
	}

	seen := map[string]bool{}
	for _, verb := range verbs {
		words := strings.Fields(verb)
		code, out, errors := u.run(append(words, "--help")...)
		if code != 0 || errors != "" || !strings.Contains(out, "Usage:\n  rockpool "+verb) {
			t.Errorf("%s --help: %d\n%s%s", verb, code, out, errors)
		}
		if seen[out] {
			t.Errorf("%s has the help of another verb", verb)
		}
		seen[out] = true
	}

	if entries, err := os.ReadDir(u.home); err != nil || len(entries) > 0 {
		t.Errorf("asking for help made files: %v, %v", entries, err)
	}
}

func TestRun_ExitCodes(t *testing.T) {
	for _, c := range []struct {
		args string
		env  string
		code int
		want string // in what is said
	}{
		{args: "vm status", code: cli.ExitOK, want: "stopped"},
		{args: "down", code: cli.ExitOK, want: "rockpool-root is stopped"},
		{args: "nothing", code: cli.ExitUsage, want: `does not know "nothing"`},
		{args: "statsu", code: cli.ExitUsage, want: "rockpool --help"},
		{args: "vm statsu", code: cli.ExitUsage, want: `is "status" meant?`},
		{args: "vm status --jason", code: cli.ExitUsage, want: "rockpool vm status --help"},
		{args: "vm status extra", code: cli.ExitUsage, want: `does not know "extra"`},
		{args: "vm logs one two", code: cli.ExitUsage, want: `does not know "two"`},
		{args: "up --memory lots", code: cli.ExitUsage, want: "use a size above 0"},
		{args: "up", env: "ROOT_VM_MEMORY", code: cli.ExitUsage, want: "ROOT_VM_MEMORY="},
		{args: "up", code: cli.ExitNotFound, want: "rockpool up --image DIR"},
		{args: "up --image none", code: cli.ExitFailure, want: "give the directory of an image"},
		{args: "vm ssh true", code: cli.ExitNotFound, want: "rockpool up"},
		{args: "ws list", code: cli.ExitNotFound, want: "no such instance"},
		{args: "vm password", code: cli.ExitNotFound, want: "no such instance"},
		{args: "vm logs", code: cli.ExitNotFound, want: "no such instance"},
		{args: "--name A/B vm status", code: cli.ExitFailure, want: "lower-case letters"},
		{args: "vm autostart", code: cli.ExitUsage, want: "autostart on|off"},
		{args: "vm autostart maybe", code: cli.ExitUsage, want: "autostart on|off"},
		{args: "vm autostart on", code: cli.ExitNotFound, want: "no such instance"},
		{args: "vm autostart off", code: cli.ExitOK, want: "does not start with this host"},
		{args: "vm destroy --timeout 5", code: cli.ExitUsage, want: "unknown flag: --timeout"}, // it would have no effect
		{args: "supervise", code: cli.ExitUsage, want: "launch|attach DIR"},
		{args: "supervise launch none", code: cli.ExitNotFound, want: "no such instance"},
	} {
		u := newTerminal(t)
		if c.env != "" {
			u.env[c.env] = "nonsense"
		}
		code, out, errors := u.run(strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out+errors, c.want) {
			t.Errorf("rockpool %s: code %d, want %d with %q\n%s%s", c.args, code, c.code, c.want, out, errors)
		}
		if code != 0 && errors == "" {
			t.Errorf("rockpool %s: nothing on stderr", c.args)
		}
	}
}

func TestRun_OffInstance(t *testing.T) {
	u := newTerminal(t)
	u.instance("rockpool-root")
	for _, verb := range []string{"vm ssh true", "vm password", "ws list"} {
		code, out, errors := u.run(strings.Fields(verb)...)
		if code != cli.ExitNotRunning || !strings.Contains(errors, "rockpool vm start") {
			t.Errorf("%s: code %d\n%s%s", verb, code, out, errors)
		}
	}
}

// instance makes a stopped instance and returns the path of its data disk.
func (u *terminal) instance(name string) string {
	u.t.Helper()
	dir := filepath.Join(u.home, ".local/state/rockpool-root-vm/instances", name)
	data := filepath.Join(dir, "data.raw")
	err := errors.Join(
		os.MkdirAll(dir, 0o700),
		os.WriteFile(filepath.Join(dir, "instance.json"), []byte(`{"name":"`+name+`","ports":{"ssh":2222}}`), 0o600),
		os.WriteFile(data, []byte("precious"), 0o600),
	)
	if err != nil {
		u.t.Fatal(err)
	}
	return data
}

func TestRun_Interrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	u := newTerminal(t)
	u.instance("rockpool-root")
	u.program.Image = nil
	if code, out, errors := u.runWith(ctx, "up", "--image", u.home); code != cli.ExitInterrupted {
		t.Errorf("code %d\n%s%s", code, out, errors)
	}
}

func TestRun_FlagsWin(t *testing.T) {
	u := newTerminal(t)
	u.env["ROOT_VM_NAME"] = "from-environment"
	for _, args := range [][]string{{"vm", "status", "--json", "--name", "from-flag"}, {"--name=from-flag", "vm", "status", "--json"}} {
		code, out, errors := u.run(args...)
		var state struct{ Name, Status string }
		if err := json.Unmarshal([]byte(out), &state); err != nil || code != 0 || state.Name != "from-flag" || state.Status != "stopped" {
			t.Errorf("%q: %d %+v, %v\n%s%s", args, code, state, err, out, errors)
		}
	}
	if _, out, _ := u.run("down"); !strings.Contains(out, "from-environment is stopped") {
		t.Errorf("said %q", out)
	}
}

func TestRun_Destroy(t *testing.T) {
	u := newTerminal(t)
	data := u.instance("one")
	if code, _, errors := u.run("vm", "destroy", "--name", "one"); code != cli.ExitFailure || !strings.Contains(errors, "nothing was deleted") {
		t.Errorf("without an answer: %d, %q", code, errors)
	}
	if _, err := os.Stat(data); err != nil {
		t.Error(err)
	}
	if code, out, _ := u.run("vm", "destroy", "--name", "one", "--yes"); code != 0 || !strings.Contains(out, "one is destroyed") {
		t.Errorf("with --yes: %d, %q", code, out)
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the data is still there")
	}
}

// TestRun_DestroyEndsAutostart: the verb removes the service too.
func TestRun_DestroyEndsAutostart(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the service manager is stood in for as it is on Linux")
	}
	u := newTerminal(t)
	u.instance("one")
	stub := filepath.Join(u.home, "bin")
	unit := filepath.Join(u.home, ".config/systemd/user/rockpool-one.service")
	state := filepath.Join(u.home, ".local/state/rockpool-root-vm")
	if err := errors.Join(
		os.MkdirAll(stub, 0o755), os.MkdirAll(filepath.Dir(unit), 0o755),
		os.WriteFile(filepath.Join(stub, "systemctl"), []byte("#!/bin/sh\nexit 0\n"), 0o755),
		os.WriteFile(unit, []byte("ExecStart=rockpool vm start --name one --state "+state+" --cache /c\n"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", stub+":/usr/bin:/bin")

	code, out, said := u.run("vm", "destroy", "--name", "one", "--yes")
	if _, err := os.Stat(unit); code != 0 || err == nil || !strings.Contains(out, "starts with this host no more") {
		t.Errorf("code %d, the service: %v\n%s%s", code, err, out, said)
	}
}

// TestRun_WorkspacesOfAnInstance: the verbs whose flags are the agent's take the
// instance as all others do, and as their help says.
func TestRun_WorkspacesOfAnInstance(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"ws list --name other", "--name other"},
		{"ws list --name=other", "--name other"},
		{"ws list --json --name other", "--name other"},
		{"ws --name other list", "--name other"},
		{"--name other ws list", "--name other"},
		{"ws create --repository r --name other one", "--name other"},
	} {
		u := newTerminal(t)
		u.instance("rockpool-root")
		u.env["ROOT_VM_NAME"] = "from-environment"
		code, _, said := u.run(strings.Fields(c.args)...)
		if code != cli.ExitNotFound || !strings.Contains(said, c.want) {
			t.Errorf("%s: code %d, %q; want what is said of %q", c.args, code, said, c.want)
		}
	}

	for _, place := range []string{"--state elsewhere", "--state=elsewhere"} {
		u := newTerminal(t)
		u.instance("rockpool-root")
		if code, _, said := u.run(strings.Fields("ws list " + place + " --cache c")...); code != cli.ExitNotFound {
			t.Errorf("%s: code %d, %q", place, code, said)
		}
	}
	u := newTerminal(t)
	u.instance("rockpool-root")
	if code, _, said := u.run("ws", "list", "--", "--name", "other"); code != cli.ExitNotRunning {
		t.Errorf("behind --: code %d, %q", code, said)
	}
	if code, _, said := u.run("ws", "list", "--name"); code != cli.ExitUsage || !strings.Contains(said, "needs an argument: --name") {
		t.Errorf("without a value: code %d, %q", code, said)
	}
}

// TestRun_SpeaksOfTheProgramThatIsCalled: who calls mage may have no rockpool.
func TestRun_SpeaksOfTheProgramThatIsCalled(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"vm logs --folow", "go tool mage: unknown flag: --folow: see `go tool mage vm:logs --help`\n"},
		{"vm logs one two", "go tool mage: go tool mage vm:logs does not know \"two\": see `go tool mage vm:logs --help`\n"},
		{"ws list --name", "go tool mage: flag needs an argument: --name: see `go tool mage ws:list --help`\n"},
		{"up --memory lots", "see `go tool mage up --help`\n"},
		{"up", "go tool mage: "},
	} {
		u := newTerminal(t)
		u.program.Command = host.MageCommand
		if code, _, said := u.run(strings.Fields(c.args)...); code == 0 || !strings.Contains(said, c.want) || strings.Contains(said, "rockpool:") || strings.Contains(said, "`rockpool ") {
			t.Errorf("%s: code %d\n%s\nwant\n%s", c.args, code, said, c.want)
		}
	}
}

// TestRun_Completion completes verbs by the program itself, as the shells'
// scripts do.
func TestRun_Completion(t *testing.T) {
	u := newTerminal(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, out, errors := u.run("completion", shell); code != 0 || !strings.Contains(out, "__complete") || errors != "" {
			t.Errorf("%s: %d, %d bytes, %s", shell, code, len(out), errors)
		}
	}

	_, out, _ := u.run("__complete", "vm", "")
	var offered []string
	for line := range strings.Lines(out) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		offered = append(offered, name)
	}

	for _, verb := range []string{"start", "stop", "ssh", "logs", "status", "password", "destroy"} {
		if !slices.Contains(offered, verb) {
			t.Errorf("vm %s is not offered in %q", verb, offered)
		}
	}

	if _, out, _ := u.run("__complete", ""); strings.Contains(out, "supervise") {
		t.Error("supervise, which is not for people, is offered")
	}
}

// TestRun_DoctorJSON has a list that a script can read, also when checks fail.
func TestRun_DoctorJSON(t *testing.T) {
	u := newTerminal(t)
	u.program.Checks = func(context.Context) []preflight.Check {
		return []preflight.Check{{Name: "mine", Err: errors.New("is bad")}}
	}
	code, out, errors := u.run("doctor", "--json")
	var findings []struct {
		Name   string
		OK     bool
		Detail string
	}
	if err := json.Unmarshal([]byte(out), &findings); err != nil || code != cli.ExitFailure || !strings.Contains(errors, "checks failed") {
		t.Fatalf("%d, %v\n%s%s", code, err, out, errors)
	}
	last := findings[len(findings)-1]
	if last.Name != "mine" || last.OK || last.Detail != "is bad" {
		t.Errorf("found %+v", findings)
	}
}
