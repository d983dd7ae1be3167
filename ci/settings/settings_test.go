package settings_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/ci/settings"
)

func load(env map[string]string) (settings.Settings, error) {
	return settings.Load("/src", settings.Host{
		Getenv:     func(k string) string { return env[k] },
		HomeDir:    func() (string, error) { return "/home/u", nil },
		CommitTime: func(string) (int64, error) { return 1700000000, nil },
	})
}

func TestLoad_Defaults(t *testing.T) {
	s, err := load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Spec.Suite != "trixie" || s.Spec.Architecture != "amd64" || s.Spec.SourceDateEpoch != 1700000000 {
		t.Errorf("spec = %+v", s.Spec)
	}
	if s.CacheDir != "/home/u/.cache/rockpool-root-vm" || s.StateDir != "/home/u/.local/state/rockpool-root-vm" {
		t.Errorf("directories = %q, %q", s.CacheDir, s.StateDir)
	}
	if s.VM.Memory != 8*builders.GiB || s.VM.Ports.Preview != 8082 || s.VM.ShareDir != "/src" {
		t.Errorf("vm = %+v", s.VM)
	}
}

func TestLoad_Overrides(t *testing.T) {
	s, err := load(map[string]string{
		"SUITE": "bookworm", "DISK_SIZE": "6G", "FORMATS": "qcow2,raw", "SOURCE_DATE_EPOCH": "42",
		"ROCKPOOL_CACHE": "cache", "XDG_STATE_HOME": "/var/s", "ROOT_VM_MEMORY": "512M",
		"ROOT_VM_WEB_PORT": "9080", "SHARE": "9p", "MIRROR": "a b", "ROCKPOOL_PROJECT": "p",
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Spec.Suite != "bookworm" || s.Spec.DiskSize != 6*builders.GiB || len(s.Spec.Formats) != 2 || s.Spec.SourceDateEpoch != 42 {
		t.Errorf("spec = %+v", s.Spec)
	}
	if s.CacheDir != "/src/cache" || s.StateDir != "/var/s/rockpool-root-vm" || s.VM.ShareDir != "/src/p" {
		t.Errorf("directories = %q, %q, %q", s.CacheDir, s.StateDir, s.VM.ShareDir)
	}
	if s.VM.Memory != 512*builders.MiB || s.VM.Ports.Preview != 9082 || !s.MemoryAsked || s.VM.Share != "9p" || len(s.Mirrors) != 2 {
		t.Errorf("vm = %+v", s.VM)
	}
}

func TestLoad_ReportsEveryFault(t *testing.T) {
	_, err := load(map[string]string{
		"SUITE": "sid", "ARCH": "m68k", "FORMATS": "vhd", "DISK_SIZE": "1G", "ROOT_VM_MEMORY": "lots",
		"ROOT_VM_CPUS": "-1", "ROOT_VM_SSH_PORT": "70000", "SHARE": "nfs", "FORCE": "maybe",
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"SUITE", "ARCH", "FORMATS", "DISK_SIZE", "ROOT_VM_MEMORY", "ROOT_VM_CPUS", "ROOT_VM_SSH_PORT", "SHARE", "FORCE"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s:\n%v", want, err)
		}
	}
}

func TestLoad_NoHome(t *testing.T) {
	_, err := settings.Load("/src", settings.Host{
		Getenv:     func(string) string { return "" },
		HomeDir:    func() (string, error) { return "", errors.New("$HOME is not defined") },
		CommitTime: func(string) (int64, error) { return 1, nil },
	})
	if err == nil || !strings.Contains(err.Error(), "ROCKPOOL_CACHE") {
		t.Errorf("error = %v", err)
	}
}

// TestLoad_NoCommit works outside a git checkout: only a build needs the time.
func TestLoad_NoCommit(t *testing.T) {
	s, err := settings.Load("/src", settings.Host{
		Getenv:     func(string) string { return "" },
		HomeDir:    func() (string, error) { return "/home/u", nil },
		CommitTime: func(string) (int64, error) { return 0, errors.New("no commit") },
	})
	if err != nil || s.EpochErr == nil {
		t.Errorf("errors = %v, %v", err, s.EpochErr)
	}
	if _, err := settings.GitCommitTime(t.TempDir()); err == nil || !strings.Contains(err.Error(), "git: ") {
		t.Errorf("error = %v", err)
	}
}
