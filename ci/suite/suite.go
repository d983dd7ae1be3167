// Package suite runs the checks of a checkout: its tests, its linters, and the
// tests that take real parts. Each method of [Suite] is one target. It owns no
// state.
package suite

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/pipeline"
	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/ci/browser"
	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/host"
	"github.com/rockpool/rootvm/host/preflight"
	"github.com/rockpool/rootvm/vm"
)

// Suite is the checks of one checkout.
type Suite struct {
	Pipeline *pipeline.Pipeline
	App      *host.App // with its settings loaded
	Packages preflight.Host
	Getenv   func(string) string
	Out, Err io.Writer
}

// Test runs the tests that need no root, no VM and no network. Tests that use
// the tools tree run when a build has fetched it.
func (s *Suite) Test(ctx context.Context) error {
	if err := s.Packages.InstallMissing(ctx, s.Out); err != nil {
		return err
	}
	// Check vets all of it; debugging information would only be linked.
	test := []string{"go", "test", "-vet=off", "-ldflags=-w", "-tags"}
	for _, argv := range [][]string{
		slices.Concat(test, []string{toolchain.Tags, "./..."}),
		slices.Concat(test, []string{toolchain.PodmanTags}, withPodman),
	} {
		if err := s.run(ctx, s.testTools(), argv...); err != nil {
			return err
		}
	}
	return nil
}

// withPodman are the packages that [toolchain.PodmanTags] changes.
var withPodman = []string{"./agent/podman", "./cmd/rockpool-agent"}

// testTools points the tests that use the tools tree to it, when the cache has
// one.
func (s *Suite) testTools() []string {
	tools, ok := (bootstrap.Cache{Dir: s.Pipeline.CacheDir}).CachedTools()
	if !ok {
		return nil
	}
	return []string{"ROCKPOOL_TEST_TOOLS=" + tools.Dir}
}

// Check runs the linters. Their findings are printed; any is a failure.
func (s *Suite) Check(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "gofmt", append([]string{"-l"}, s.goFiles()...)...).Output()
	if err != nil {
		return fmt.Errorf("gofmt: %w", err)
	}
	if len(out) > 0 {
		return fmt.Errorf("not formatted; run gofmt -w on:\n%s", out)
	}

	all := "e2e mage " + toolchain.Tags // each set of tags vets every dependency anew
	for _, argv := range [][]string{
		{"go", "vet", "-tags", all, "./..."},
		append([]string{"go", "vet", "-tags", toolchain.PodmanTags}, withPodman...),
		{"go", "tool", "staticcheck", "-tags", all, "./..."},
		append([]string{"go", "tool", "staticcheck", "-tags", toolchain.PodmanTags}, withPodman...),
		{"go", "test", "-vet=off", "-ldflags=-w", "-tags", toolchain.Tags, "./ci"},
	} {
		if err := s.run(ctx, nil, argv...); err != nil {
			return err
		}
	}
	return nil
}

// goFiles lists the checkout's Go files.
func (s *Suite) goFiles() []string {
	var files []string
	_ = filepath.WalkDir(s.Pipeline.Source, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && path != s.Pipeline.Source) {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			files = append(files, path)
		}
		return nil
	})
	return files
}

// SetupE2E installs the host packages that the end-to-end tests need beside
// those of [host.App.Setup].
func (s *Suite) SetupE2E(ctx context.Context) error {
	packages := s.Packages
	packages.Needs = slices.Clone(packages.Needs)
	for _, need := range preflight.Browser() {
		if need.Program == "chromium" {
			_, err := browser.Chromium(s.Getenv, packages.LookPath)
			if err == nil {
				continue
			}
			if packages.Exists("/usr/bin/snap") { // Ubuntu, whose archive has no Chromium
				return err
			}
		}
		packages.Needs = append(packages.Needs, need)
	}
	return packages.InstallMissing(ctx, s.Out)
}

// E2E builds what is missing and runs the tests that take real parts: those of
// the disk with its tools, of the launcher with real VMs, then of the targets
// and of the dashboard in a browser. With RUNTIME=stub it runs only those of
// the browser that need no container, in a minute or two. Arguments of `go
// test` may be given in E2E_FLAGS, such as "-run TestSSH", or -short to leave
// out what takes long. E2E_GROUP has it run one of [Groups] alone.
func (s *Suite) E2E(ctx context.Context) error {
	group, err := groupFlags(s.Getenv(GroupVariable))
	if err != nil {
		return err
	}
	if err := s.SetupE2E(ctx); err != nil {
		return err
	}

	flags := strings.Fields(s.Getenv("E2E_FLAGS"))
	if s.Getenv("RUNTIME") == "stub" {
		if _, err := s.Pipeline.Tools(ctx); err != nil { // for Caddy
			return err
		}
		argv := append([]string{"go", "test", "-vet=off", "-tags", "e2e " + toolchain.Tags, "-count=1", "-timeout=60m", "-v"}, flags...)
		return s.run(ctx, s.testTools(), append(argv, "./ci/e2e/browser")...)
	}

	dir, err := os.MkdirTemp("", "rockpool-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	under, err := s.underTest(ctx, dir)
	if err != nil {
		return err
	}

	argv := []string{"go", "test", "-vet=off", "-tags", "e2e " + toolchain.Tags, "-count=1", "-p=1", "-timeout=12h", "-v"}
	argv = slices.Concat(argv, group, flags)
	packages := []string{"./builders/disk", "./templates", "./vm", "./ci/e2e"}
	if group != nil {
		packages = []string{"./ci/e2e"}
	}
	env := append(s.testTools(), "ROCKPOOL_E2E="+under)
	return s.run(ctx, env, append(argv, packages...)...)
}

// underTest writes the file that vm's tests of real machines read: the built
// image, and an instance with ports of its own.
func (s *Suite) underTest(ctx context.Context, dir string) (string, error) {
	launcher, config, err := s.App.Prepare(ctx)
	if err != nil {
		return "", err
	}
	supervisor, err := launcher.Supervisor(ctx)
	if err != nil {
		return "", err
	}

	tested := vm.Config{
		Image: config.Image, Architecture: config.Architecture,
		Memory: 2 * vm.GiB, CPUs: 2, DataSize: 8 * vm.GiB,
		Ports: guest.Ports{SSH: 9322, Dashboard: 9380, IDE: 9381, Preview: 9382},
	}
	tested.FillDefaults()
	b, err := json.Marshal(map[string]any{
		"dir": dir, "supervisor": supervisor, "driver": launcher.Driver, "config": tested, "health": true,
	})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "under-test.json")
	return path, os.WriteFile(path, b, 0o600)
}

// run runs a command in the checkout and passes its output on.
func (s *Suite) run(ctx context.Context, env []string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Pipeline.Source, s.Out, s.Err
	// What tests, linters and builds compile is compiled once.
	cmd.Env = append(append(os.Environ(), "GOFLAGS="+s.Getenv("GOFLAGS")+" -trimpath"), env...)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return nil
}
