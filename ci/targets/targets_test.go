package targets

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/ci/preflight"
	"github.com/rockpool/rootvm/ci/settings"
	"github.com/rockpool/rootvm/vm"
)

func app(t *testing.T, answer string) (*App, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	s, err := settings.Load(dir, settings.Host{
		Getenv: func(k string) string {
			return map[string]string{"ROCKPOOL_CACHE": "cache", "ROCKPOOL_STATE": "state"}[k]
		},
		HomeDir:    func() (string, error) { return dir, nil },
		CommitTime: func(string) (int64, error) { return 1, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	return &App{Settings: s, In: strings.NewReader(answer), Out: &out, Err: &out}, &out
}

// instance makes a stopped instance with a data disk.
func instance(t *testing.T, a *App) string {
	t.Helper()
	dir := filepath.Join(a.instances().Dir, a.Settings.VM.Name)
	data := filepath.Join(dir, "data.raw")
	err := errors.Join(
		os.MkdirAll(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "instance.json"), []byte(`{"name":"rockpool-root"}`), 0o600),
		os.WriteFile(data, []byte("precious"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestApp_DestroyAsksForTheName(t *testing.T) {
	for _, answer := range []string{"", "\n", "y\n", "rockpool\n"} {
		a, _ := app(t, answer)
		data := instance(t, a)
		if err := a.Destroy(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "nothing was deleted") {
			t.Errorf("answer %q: error = %v", answer, err)
		}
		if _, err := os.Stat(data); err != nil {
			t.Errorf("answer %q: %v", answer, err)
		}
	}
	for _, c := range []struct {
		answer string
		args   []string
	}{{"rockpool-root\n", nil}, {"", []string{"--yes"}}} {
		a, _ := app(t, c.answer)
		data := instance(t, a)
		if err := a.Destroy(t.Context(), c.args); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if _, err := os.Stat(data); err == nil {
			t.Errorf("%+v: the data is still there", c)
		}
	}
}

func TestApp_NoInstance(t *testing.T) {
	a, out := app(t, "")
	if err := errors.Join(a.Stop(t.Context()), a.Destroy(t.Context(), nil), a.Status(t.Context(), []string{"--json"})); err != nil {
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
	if code, err := a.SSH(t.Context(), []string{"--", "true"}); err == nil || code == 0 || !strings.Contains(err.Error(), "mage up") {
		t.Errorf("ssh: %d, %v", code, err)
	}
}

func TestApp_ImageOfIncompleteManifest(t *testing.T) {
	a, _ := app(t, "")
	_, err := a.imageOf(builders.Manifest{})
	if err == nil || !strings.Contains(err.Error(), "rootvm:build") {
		t.Errorf("error = %v", err)
	}
}

func TestApp_ProgressLines(t *testing.T) {
	a, out := app(t, "")
	a.progress(vm.Progress{Phase: "kernel", Seconds: 5.25})
	a.progress(vm.Progress{Note: "a sentence"})
	if got, want := out.String(), "     5.2 s  kernel\n  a sentence\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestApp_DoctorNamesWhatIsMissing(t *testing.T) {
	a, out := app(t, "")
	a.Host = preflight.Host{
		LookPath: func(string) (string, error) { return "", errors.New("not found") },
		Exists:   func(string) bool { return false },
		Run:      func(context.Context, []string, io.Writer) error { return nil },
	}
	if err := a.Doctor(t.Context()); err == nil || !strings.Contains(err.Error(), "checks failed") {
		t.Errorf("error = %v", err)
	}
	if !strings.Contains(out.String(), "missing git, gcc, libc6-dev, mmdebstrap") {
		t.Errorf("said:\n%s", out)
	}
}

// TestSetupE2E: a browser of any name is enough, and Ubuntu's users hear of
// the snap before apt-get fails.
func TestSetupE2E(t *testing.T) {
	t.Setenv("ROCKPOOL_CHROMIUM", "")
	have := func(names ...string) func(string) (string, error) {
		return func(name string) (string, error) {
			for _, n := range names {
				if n == name {
					return "/usr/bin/" + name, nil
				}
			}
			return "", errors.New("not found")
		}
	}
	var programs []string
	for _, n := range append(preflight.Needs, preflight.BrowserNeeds...) {
		if n.Program != "chromium" {
			programs = append(programs, n.Program)
		}
	}
	a, _ := app(t, "")
	a.Host = preflight.Host{Exists: func(string) bool { return true }, LookPath: have(append(programs, "google-chrome")...)}
	if err := a.SetupE2E(context.Background()); err != nil {
		t.Error(err)
	}
	a.Host.LookPath = have(programs...)
	if err := a.SetupE2E(context.Background()); err == nil || !strings.Contains(err.Error(), "snap install chromium") {
		t.Errorf("error = %v", err)
	}
}
