package pipeline

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders"
)

func load(env map[string]string) (*Pipeline, error) {
	return Load("/src", Environment{
		Getenv:     func(name string) string { return env[name] },
		HomeDir:    func() (string, error) { return "/home/u", nil },
		CommitTime: func(string, ...string) (int64, error) { return 1700000000, nil },
	}, io.Discard)
}

func TestLoad_Defaults(t *testing.T) {
	p, err := load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.Spec.Suite != "trixie" || p.Spec.Architecture != "amd64" || p.Spec.SourceDateEpoch != 1700000000 {
		t.Errorf("spec = %+v", p.Spec)
	}
	if p.CacheDir != "/home/u/.cache/rockpool-root-vm" || p.Dist != "/src/dist" {
		t.Errorf("directories = %q, %q", p.CacheDir, p.Dist)
	}
	w := p.WorkspaceImage
	if w.Suite != "trixie" || len(w.Platforms) != 1 || w.Platforms[0] != "linux/amd64" || w.SourceDateEpoch != 1700000000 {
		t.Errorf("workspace image = %+v", w)
	}
}

func TestLoad_Overrides(t *testing.T) {
	p, err := load(map[string]string{
		"SUITE": "bookworm", "DISK_SIZE": "6G", "FORMATS": "qcow2,raw", "SOURCE_DATE_EPOCH": "42",
		"ROCKPOOL_CACHE": "cache", "MIRROR": "a b", "FORCE": "1", "BASE": "registry.example/debian",
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.Spec.Suite != "bookworm" || p.Spec.DiskSize != 6*builders.GiB || len(p.Spec.Formats) != 2 || p.Spec.SourceDateEpoch != 42 {
		t.Errorf("spec = %+v", p.Spec)
	}
	if p.CacheDir != "/src/cache" || len(p.Mirrors) != 2 || !p.Force || p.Workspaces().Spec.Base != "registry.example/debian" {
		t.Errorf("pipeline = %+v", p)
	}
}

func TestLoad_ReportsEveryFault(t *testing.T) {
	_, err := load(map[string]string{
		"SUITE": "sid", "ARCH": "m68k", "FORMATS": "vhd", "DISK_SIZE": "1G", "FORCE": "maybe", "SOURCE_DATE_EPOCH": "today",
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"SUITE", "ARCH", "FORMATS", "DISK_SIZE", "FORCE", "SOURCE_DATE_EPOCH"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s:\n%v", want, err)
		}
	}
}

func TestLoad_NoHome(t *testing.T) {
	_, err := Load("/src", Environment{
		Getenv:     func(string) string { return "" },
		HomeDir:    func() (string, error) { return "", errors.New("$HOME is not defined") },
		CommitTime: func(string, ...string) (int64, error) { return 1, nil },
	}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "ROCKPOOL_CACHE") {
		t.Errorf("error = %v", err)
	}
}

// TestLoad_NoCommit works outside a git checkout: only a build needs the time.
func TestLoad_NoCommit(t *testing.T) {
	p, err := Load("/src", Environment{
		Getenv:     func(string) string { return "" },
		HomeDir:    func() (string, error) { return "/home/u", nil },
		CommitTime: func(string, ...string) (int64, error) { return 0, errors.New("no commit") },
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Build(t.Context()); err == nil || !strings.Contains(err.Error(), "the commit's time is not known (no commit): set SOURCE_DATE_EPOCH") {
		t.Errorf("a build: %v", err)
	}
	if err := p.Workspaces().Command(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
		t.Errorf("a build of the workspace image: %v", err)
	}
	if _, err := GitCommitTime(t.TempDir()); err == nil || !strings.Contains(err.Error(), "git: ") {
		t.Errorf("error = %v", err)
	}
}

// TestLoad_CommitOfTheSources: the default of the latest time in the image is
// one of what the image is made from, so that a commit of anything else makes no
// image older.
func TestLoad_CommitOfTheSources(t *testing.T) {
	empty, _ := pipeline(t)
	checkout(t, empty)
	source := empty.Source
	load := func() *Pipeline {
		t.Helper()
		p, err := Load(source, Environment{
			Getenv:     func(string) string { return "" },
			HomeDir:    func() (string, error) { return "/home/u", nil },
			CommitTime: GitCommitTime,
		}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	seconds := int64(1700000000)
	change := func(file string) int64 {
		t.Helper()
		seconds += 1000
		t.Setenv("GIT_COMMITTER_DATE", fmt.Sprintf("@%d +0000", seconds))
		writeFile(t, filepath.Join(source, file), fmt.Sprint(seconds))
		commit(t, source)
		return seconds
	}

	made := change("agent/file")
	digest, err := load().sourceDigest()
	if err != nil {
		t.Fatal(err)
	}
	m := builders.Manifest{SourceDigest: digest}
	for _, file := range []string{"README.md", "host/code.go", "agent/x_test.go", "agent/deep/testdata/golden", "agent/web/node_modules/x/index.js"} {
		change(file)
		p := load()
		if note := p.Older(t.Context(), m); p.Spec.SourceDateEpoch != made || p.WorkspaceImage.SourceDateEpoch != made || note != "" {
			t.Errorf("a commit of %s: the time is %d, want %d; %q", file, p.Spec.SourceDateEpoch, made, note)
		}
	}
	for _, file := range []string{"agent/new.go", "go.sum", "provision/files/x"} {
		made = change(file)
		p := load()
		if p.Spec.SourceDateEpoch != made || p.Older(t.Context(), m) == "" {
			t.Errorf("a commit of %s: the time is %d, want %d", file, p.Spec.SourceDateEpoch, made)
		}
	}

	bare := t.TempDir()
	runGit(t, bare, "init", "-q")
	writeFile(t, filepath.Join(bare, "README.md"), "words")
	commit(t, bare)
	if _, err := GitCommitTime(bare, commitPaths()...); err == nil || !strings.Contains(err.Error(), "git: no commit") {
		t.Errorf("without sources: error = %v", err)
	}
}

// TestSettings_Documented: README.md has a row for every variable.
func TestSettings_Documented(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range new(Pipeline).settings() {
		if !strings.Contains(string(readme), "`"+s.Env+"`") {
			t.Errorf("README.md does not mention %s", s.Env)
		}
		if s.Usage == "" {
			t.Errorf("%s has no words", s.Env)
		}
	}
}
