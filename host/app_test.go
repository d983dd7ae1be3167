package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/host/preflight"
	"github.com/rockpool/rootvm/vm"
)

// mage is the program as mage's targets are.
func mage() Program {
	return Program{
		Command: MageCommand,
		Needs:   preflight.Building(),
	}
}

// around are surroundings below a temporary directory, with the variables of
// env.
func around(t *testing.T, answer string, env map[string]string) (Surroundings, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	var out bytes.Buffer
	return Surroundings{
		In: strings.NewReader(answer), Out: &out, Err: &out,
		Getenv:  func(name string) string { return env[name] },
		HomeDir: func() (string, error) { return dir, nil },
		Dir:     dir,
	}, &out
}

// app is the verbs with default settings but for env.
func app(t *testing.T, program Program, answer string, env map[string]string) (*App, *bytes.Buffer) {
	t.Helper()
	s, out := around(t, answer, env)
	a := NewApp(program, s)
	if err := a.Load(s, nil, Starting, Stopping, Asking); err != nil {
		t.Fatal(err)
	}
	return a, out
}

// stoppedInstance makes a stopped instance with a data disk.
func stoppedInstance(t *testing.T, a *App, config string) (data string) {
	t.Helper()
	dir := filepath.Join(a.instances().Dir, a.Settings.VM.Name)
	data = filepath.Join(dir, "data.raw")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "instance.json"), config)
	writeFile(t, data, "precious")
	return data
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestApp_DestroyAsksForTheName(t *testing.T) {
	for _, answer := range []string{"", "\n", "y\n", "rockpool\n"} {
		a, _ := app(t, mage(), answer, nil)
		data := stoppedInstance(t, a, `{"name":"rockpool-root"}`)
		if err := a.Destroy(t.Context()); err == nil || !strings.Contains(err.Error(), "nothing was deleted") {
			t.Errorf("answer %q: error = %v", answer, err)
		}
		if _, err := os.Stat(data); err != nil {
			t.Errorf("answer %q: %v", answer, err)
		}
	}

	for _, c := range []struct {
		answer string
		env    map[string]string
	}{{"rockpool-root\n", nil}, {"", map[string]string{"ASSUME_YES": "1"}}} {
		a, _ := app(t, mage(), c.answer, c.env)
		data := stoppedInstance(t, a, `{"name":"rockpool-root"}`)
		if err := a.Destroy(t.Context()); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if _, err := os.Stat(data); err == nil {
			t.Errorf("%+v: the data is still there", c)
		}
	}
}

func TestApp_NoInstance(t *testing.T) {
	a, out := app(t, mage(), "", nil)
	if err := errors.Join(a.Stop(t.Context()), a.Destroy(t.Context()), a.Status(t.Context(), true)); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"rockpool-root is stopped", "nothing to destroy", `"status": "stopped"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if code, err := a.Workspaces(t.Context(), "list", nil); err == nil || code == 0 || !strings.Contains(err.Error(), "mage up") {
		t.Errorf("ws:list: %d, %v", code, err)
	}
	if code, err := a.SSH(t.Context(), []string{"true"}); err == nil || code == 0 || !strings.Contains(err.Error(), "mage up") {
		t.Errorf("ssh: %d, %v", code, err)
	}
}

func TestApp_ProgressLines(t *testing.T) {
	a, out := app(t, mage(), "", nil)
	a.progress(vm.Progress{Phase: "kernel", Seconds: 5.25})
	a.progress(vm.Progress{Note: "a sentence"})
	if got, want := out.String(), "     5.2 s  kernel\n  a sentence\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestApp_DoctorNamesWhatIsMissing(t *testing.T) {
	program := mage()
	program.Checks = func(context.Context) []preflight.Check {
		return []preflight.Check{{Name: "building", Err: errors.New("not here:\nanother line")}}
	}
	a, out := app(t, program, "", nil)
	a.Packages = preflight.Host{
		Needs:    preflight.Building(),
		LookPath: func(string) (string, error) { return "", errors.New("not found") },
		Exists:   func(string) bool { return false },
		Run:      func(context.Context, []string, io.Writer) error { return nil },
	}
	if err := a.Doctor(t.Context(), false); err == nil || !strings.Contains(err.Error(), "checks failed") {
		t.Errorf("error = %v", err)
	}
	for _, want := range []string{"missing git, gcc, libc6-dev, mmdebstrap", "go tool mage up", "FAIL  building           not here:\n                        another line\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}

	out.Reset()
	if err := a.Doctor(t.Context(), true); err == nil || !strings.Contains(out.String(), `"name": "host packages",`) || !strings.Contains(out.String(), `"ok": false`) {
		t.Errorf("as JSON: %v\n%s", err, out)
	}
}

func TestApp_Defaults(t *testing.T) {
	a, _ := app(t, mage(), "", nil)
	s := a.Settings
	home := filepath.Dir(filepath.Dir(s.CacheDir))
	if s.CacheDir != filepath.Join(home, ".cache/rockpool-root-vm") || s.StateDir != filepath.Join(home, ".local/state/rockpool-root-vm") {
		t.Errorf("directories = %q, %q", s.CacheDir, s.StateDir)
	}
	s.VM.FillDefaults()
	if s.VM.Memory != 8*builders.GiB || s.VM.Ports.Preview != 8082 || s.VM.Ports.SSH != 2222 || s.VM.ShareDir != "" || s.VM.Name != "rockpool-root" {
		t.Errorf("vm = %+v", s.VM)
	}
	if s.StartLimit.Seconds() != 120 || s.StopLimit.Seconds() != 90 || s.QEMU != "auto" || s.AssumeYes {
		t.Errorf("settings = %+v", s)
	}
}

func TestApp_Overrides(t *testing.T) {
	a, _ := app(t, mage(), "", map[string]string{
		"ROCKPOOL_CACHE": "cache", "XDG_STATE_HOME": "/var/s", "ROOT_VM_MEMORY": "512M",
		"ROOT_VM_WEB_PORT": "9080", "SHARE": "9p", "MIRROR": "a b", "ROCKPOOL_PROJECT": "p",
	})
	s, dir := a.Settings, a.Settings.base
	if s.CacheDir != filepath.Join(dir, "cache") || s.StateDir != "/var/s/rockpool-root-vm" || s.VM.ShareDir != filepath.Join(dir, "p") {
		t.Errorf("directories = %q, %q, %q", s.CacheDir, s.StateDir, s.VM.ShareDir)
	}
	if s.VM.Memory != 512*builders.MiB || s.VM.Ports.Preview != 9082 || s.VM.Share != "9p" || len(s.Mirrors) != 2 {
		t.Errorf("vm = %+v", s.VM)
	}
}

func TestApp_LoadReportsEveryFault(t *testing.T) {
	bad := map[string]string{
		"ROOT_VM_MEMORY": "lots", "ROOT_VM_CPUS": "-1", "ROOT_VM_SSH_PORT": "70000", "ROOT_VM_WEB_PORT": "65534",
		"SHARE": "nfs", "BOOT": "floppy", "ACCEL": "hvf", "ROCKPOOL_QEMU": "mine", "ASSUME_YES": "maybe", "STOP_TIMEOUT": "soon",
	}
	s, _ := around(t, "", bad)
	err := NewApp(mage(), s).Load(s, nil, Starting, Stopping, Asking)
	if err == nil {
		t.Fatal("no error")
	}
	for name := range bad {
		if !strings.Contains(err.Error(), name+"=") {
			t.Errorf("error does not name %s:\n%v", name, err)
		}
	}
}

func TestApp_LoadWithoutHome(t *testing.T) {
	s, _ := around(t, "", nil)
	s.HomeDir = func() (string, error) { return "", errors.New("$HOME is not defined") }
	if err := NewApp(mage(), s).Load(s, nil); err == nil || !strings.Contains(err.Error(), "ROCKPOOL_CACHE") {
		t.Errorf("error = %v", err)
	}
	s.Getenv = func(name string) string {
		return map[string]string{"ROCKPOOL_CACHE": "/c", "ROCKPOOL_STATE": "/s"}[name]
	}
	if err := NewApp(mage(), s).Load(s, nil); err != nil {
		t.Error(err)
	}
}

// TestSettings_Documented: README.md has a row for every variable.
func TestSettings_Documented(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	a, _ := app(t, mage(), "", nil)
	for _, g := range []Group{EveryVerb, Starting, Stopping, Asking} {
		for _, s := range a.List(g) {
			if s.Env != "" && !strings.Contains(string(readme), "`"+s.Env+"`") {
				t.Errorf("README.md does not mention %s", s.Env)
			}
			if s.Flag != "" && s.Usage == "" {
				t.Errorf("flag --%s has no words", s.Flag)
			}
		}
	}
}

// TestApp_HintsNameTheInstance: what a message tells to do is about the instance
// that it is about.
func TestApp_HintsNameTheInstance(t *testing.T) {
	for _, c := range []struct {
		program Program
		name    string
		want    string
	}{
		{Standalone(), vm.DefaultName, "`rockpool up`"},
		{Standalone(), "other", "`rockpool up --name other`"},
		{mage(), vm.DefaultName, "`go tool mage up`"},
		{mage(), "other", "`ROOT_VM_NAME=other go tool mage up`"},
	} {
		a, _ := app(t, c.program, "", map[string]string{"ROOT_VM_NAME": c.name})
		if _, err := a.SSH(t.Context(), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %s", err, c.want)
		}
	}
}

// TestApp_SharesWhatWasChosen: by default nothing that the host executes can be
// written by the guest; what was chosen once stays chosen, and can be ended.
func TestApp_SharesWhatWasChosen(t *testing.T) {
	const before = `{"name":"rockpool-root","shareDir":"/src","share":"auto"`
	for name, c := range map[string]struct {
		instance string
		env      map[string]string
		want     string
	}{
		"a new one":                    {"", nil, ""},
		"one that shared by default":   {before + "}", nil, ""},
		"one that was told to":         {before + `,"shareChosen":true}`, nil, "/src"},
		"told again":                   {before + `,"shareChosen":true}`, map[string]string{"ROCKPOOL_PROJECT": "/other"}, "/other"},
		"told for the first time":      {"", map[string]string{"ROCKPOOL_PROJECT": "/other"}, "/other"},
		"told to end":                  {before + `,"shareChosen":true}`, map[string]string{"SHARE": "none"}, ""},
		"told to end, and a directory": {"", map[string]string{"SHARE": "none", "ROCKPOOL_PROJECT": "/other"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, out := app(t, mage(), "", c.env)
			var before vm.Config
			if c.instance != "" {
				stoppedInstance(t, a, c.instance)
				inst, err := a.instances().Instance(a.Settings.VM.Name)
				if err != nil {
					t.Fatal(err)
				}
				before = inst.Config
			}

			config := a.Settings.VM
			a.chooseShare(&config, before)
			if config.ShareDir != c.want || config.ShareChosen != (c.want != "") {
				t.Errorf("shares %q, chosen: %v; want %q", config.ShareDir, config.ShareChosen, c.want)
			}
			if said := strings.Contains(out.String(), ".git/hooks"); said != (c.want != "") {
				t.Errorf("what sharing means was said: %v\n%s", said, out)
			}
		})
	}
}

// TestApp_InstanceOfAnotherCheckout is not started with this one's image, unless
// the user says so; nor is a checkout's with an image given by directory, or the
// other way round.
func TestApp_InstanceOfAnotherCheckout(t *testing.T) {
	here, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(here, link); err != nil {
		t.Fatal(err)
	}
	inCheckout := mage()
	inCheckout.Checkout = here
	inCheckout.Image = func(context.Context, io.Writer) (string, error) { return "", errors.New("asked for the image") }
	const goesOn = "asked for the image"
	for name, c := range map[string]struct {
		program  Program
		checkout string // the instance's
		image    string // the instance's
		env      map[string]string
		given    string
		want     string
	}{
		"of another":            {inCheckout, t.TempDir(), "dist/x.qcow2", nil, "", "rockpool-root belongs to the checkout "},
		"of one that is gone":   {inCheckout, "/there", "dist/x.qcow2", nil, "", "/there, which is not there any more"},
		"taken over":            {inCheckout, "/there", "dist/x.qcow2", map[string]string{"TAKE_OVER": "1"}, "", goesOn},
		"its own":               {inCheckout, here, "dist/x.qcow2", nil, "", goesOn},
		"its own, by a link":    {inCheckout, link, "dist/x.qcow2", nil, "", goesOn},
		"of an earlier release": {inCheckout, "", "dist/x.qcow2", nil, "", goesOn},
		"with a given image":    {inCheckout, "", "STATE/images/1/x.qcow2", nil, "", "runs an image that was given by directory"},
		"another image":         {Standalone(), here, "dist/x.qcow2", nil, "/none", "rockpool-root belongs to the checkout "},
		"no other image":        {Standalone(), here, "dist/x.qcow2", nil, "", "is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := app(t, c.program, "", c.env)
			a.Settings.Image = c.given
			image := strings.Replace(c.image, "STATE", a.Settings.StateDir, 1)
			stoppedInstance(t, a, fmt.Sprintf(`{"name":"rockpool-root","checkout":%q,"image":{"disk":%q}}`, c.checkout, image))
			if _, _, err := a.Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestApp_DamagedInstance is started anew, as the message of every other verb
// says, and nothing of it is shared.
func TestApp_DamagedInstance(t *testing.T) {
	program := mage()
	program.Image = func(context.Context, io.Writer) (string, error) { return "", errors.New("asked for the image") }
	a, out := app(t, program, "", nil)
	stoppedInstance(t, a, `{"name": "rockpool-`)
	if _, _, err := a.Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "asked for the image") {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(out.String(), "is damaged") {
		t.Errorf("said %q", out)
	}
}

// TestApp_Unapplied: what is asked of an instance that runs and is not done is
// said, and refused where the user would rely on it.
func TestApp_Unapplied(t *testing.T) {
	now := vm.Config{ShareDir: "/src", Memory: 8 * vm.GiB, CPUs: 4, DataSize: 40 * vm.GiB}
	now.Ports.FillDefaults()
	for name, c := range map[string]struct {
		env              map[string]string
		image            bool
		refused, ignored string
	}{
		"nothing":         {nil, false, "", ""},
		"the same":        {map[string]string{"ROCKPOOL_PROJECT": "/src", "ROOT_VM_MEMORY": "8G", "ROOT_VM_CPUS": "4", "ROOT_VM_SSH_PORT": "2222"}, false, "", ""},
		"no sharing":      {map[string]string{"SHARE": "none"}, false, "the sharing of /src", ""},
		"another project": {map[string]string{"ROCKPOOL_PROJECT": "/other"}, false, "the directory that it shares", ""},
		"another image":   {nil, true, "its image", ""},
		"memory and port": {map[string]string{"ROOT_VM_MEMORY": "4G", "ROOT_VM_WEB_PORT": "9080"}, false, "", "memory|ports"},
	} {
		a, _ := app(t, mage(), "", c.env)
		if c.image {
			a.Settings.Image = builtImage(t, "another ")
		}
		refused, ignored, err := a.unapplied(t.Context(), now)
		if err != nil || strings.Join(refused, "|") != c.refused || strings.Join(ignored, "|") != c.ignored {
			t.Errorf("%s: refused %q, ignored %q, %v", name, refused, ignored, err)
		}
	}
}

// TestApp_LoopbackName warns of a program on the other loopback address.
func TestApp_LoopbackName(t *testing.T) {
	a, out := app(t, mage(), "", nil)
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("this host has no ::1:", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if name := a.loopbackName(t.Context(), guest.Ports{IDE: port}); name != "127.0.0.1" || !strings.Contains(out.String(), "another program listens on [::1]:"+strconv.Itoa(port)) {
		t.Errorf("name %q\n%s", name, out)
	}
	l.Close()
	out.Reset()
	if name := a.loopbackName(t.Context(), guest.Ports{IDE: port}); name != "localhost" || out.Len() > 0 {
		t.Errorf("name %q\n%s", name, out)
	}
}
