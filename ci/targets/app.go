// Package targets is what the magefile calls: each method of [App] is one
// target. It joins the settings, the image build and the launcher, and prints
// for people. It owns no state.
package targets

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/pipeline"
	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/ci/preflight"
	"github.com/rockpool/rootvm/ci/settings"
	workspaceimage "github.com/rockpool/rootvm/images/pipeline"
	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/qemu"
)

// App runs targets for one checkout.
type App struct {
	Settings settings.Settings
	Host     preflight.Host
	In       io.Reader
	Out      io.Writer
	Err      io.Writer
}

// New reads the settings from the environment for the checkout in the current
// directory.
func New() (*App, error) {
	source, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	s, err := settings.Load(source, settings.Host{
		Getenv:     os.Getenv,
		HomeDir:    os.UserHomeDir,
		CommitTime: settings.GitCommitTime,
	})
	if err != nil {
		return nil, err
	}
	return &App{Settings: s, Host: preflight.ThisHost(), In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, nil
}

func (a *App) say(format string, args ...any) { fmt.Fprintf(a.Out, format+"\n", args...) }

// pipeline builds the Root VM's image as the settings say.
func (a *App) pipeline() *pipeline.Pipeline {
	s := a.Settings
	return &pipeline.Pipeline{
		Spec: s.Spec, WorkspaceImage: s.Workspace, Source: s.Source, Dist: s.Dist, CacheDir: s.CacheDir,
		Mirrors: s.Mirrors, Force: s.Force, PlainHTTP: s.PlainHTTP, Out: a.Out,
	}
}

// workspaces builds the workspace image as the settings say.
func (a *App) workspaces() *workspaceimage.Pipeline {
	s := a.Settings
	return &workspaceimage.Pipeline{
		Spec: s.Workspace, Source: s.Source, Dist: s.Dist, CacheDir: s.CacheDir,
		Mirrors: s.Mirrors, Force: s.Force, PlainHTTP: s.PlainHTTP, Out: a.Out,
	}
}

// build makes the Root VM's image.
func (a *App) build(ctx context.Context) (builders.Manifest, error) {
	if err := a.Settings.EpochErr; err != nil {
		return builders.Manifest{}, err
	}
	return a.pipeline().Build(ctx)
}

// Setup installs the host packages that are missing.
func (a *App) Setup(ctx context.Context) error {
	if err := a.Host.InstallMissing(ctx, a.Out); err != nil {
		return err
	}
	a.say("all host packages are there")
	return nil
}

// Build makes the image into dist/.
func (a *App) Build(ctx context.Context) error {
	if err := a.Host.InstallMissing(ctx, a.Out); err != nil {
		return err
	}
	m, err := a.build(ctx)
	if err != nil {
		return err
	}
	for _, f := range m.Artifacts {
		a.say("  %-44s %8.1f MB", filepath.Join("dist", f.File), float64(f.Size)/1e6)
	}
	return nil
}

// image returns the image in dist/ and builds it when there is none.
func (a *App) image(ctx context.Context) (vm.Image, error) {
	p := a.pipeline()
	m, ok := p.Manifest()
	if !ok {
		a.say("there is no image of %s yet: building it (the first time takes some minutes)", a.Settings.Spec.Name())
		var err error
		if m, err = a.build(ctx); err != nil {
			return vm.Image{}, err
		}
	} else if note := p.Older(ctx, m); note != "" {
		a.say("  %s", note)
	}
	return a.imageOf(m)
}

func (a *App) imageOf(m builders.Manifest) (vm.Image, error) {
	image := vm.Image{CommandLine: m.CommandLine, Suite: m.Suite, Renew: "go tool mage rootvm:build"}
	for format, path := range map[string]*string{"qcow2": &image.Disk, "kernel": &image.Kernel, "initrd": &image.Initrd} {
		f, ok := m.Artifact(format)
		if !ok {
			return image, fmt.Errorf("the image in %s has no %s: build it again with `go tool mage rootvm:build`", a.Settings.Dist, format)
		}
		*path = filepath.Join(a.Settings.Dist, f.File)
		if format == "qcow2" {
			image.SHA256 = f.SHA256
		}
	}
	return image, nil
}

// host is the launcher with the programs of this machine.
func (a *App) host(ctx context.Context) (vm.Host, error) {
	h := a.instances()
	programs, err := a.programs(ctx)
	if err != nil {
		return h, err
	}
	h.Driver = &qemu.Driver{Programs: programs, Cache: a.Settings.CacheDir}
	return h, nil
}

// instances is the launcher for verbs that start nothing new.
func (a *App) instances() vm.Host {
	return vm.Host{
		Dir:        filepath.Join(a.Settings.StateDir, "instances"),
		Drivers:    vm.Drivers{"qemu": func() vm.Driver { return new(qemu.Driver) }},
		Supervisor: a.supervisor,
		Command:    func(verb ...string) string { return "go tool mage " + strings.Join(verb, ":") },
		Log:        slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// supervisor compiles the supervisor's program.
func (a *App) supervisor(ctx context.Context) ([]string, error) {
	program := filepath.Join(a.Settings.CacheDir, "bin", "rockpool-vm")
	return []string{program}, toolchain.Build(ctx, a.Settings.Source, "./cmd/rockpool-vm", program, toolchain.Plain, a.Out)
}

// programs chooses between the host's QEMU and the one of the tools tree.
func (a *App) programs(ctx context.Context) (qemu.Programs, error) {
	if a.Settings.QEMU != "bundled" {
		p, err := qemu.Detect(ctx, a.Settings.Spec.Architecture)
		if err == nil || a.Settings.QEMU == "host" || !errors.Is(err, qemu.ErrTooOld) {
			return p, err
		}
	}
	tools, err := a.pipeline().Tools(ctx)
	if err != nil {
		return qemu.Programs{}, err
	}
	p := qemu.Programs{
		FirmwareDirs: tools.QEMUData(),
		Env:          tools.Env(),
		OVMFCode:     tools.Path("usr/share/OVMF/OVMF_CODE_4M.fd"),
		OVMFVars:     tools.Path("usr/share/OVMF/OVMF_VARS_4M.fd"),
	}
	for name, argv := range map[string]*[]string{
		qemu.SystemProgram(a.Settings.Spec.Architecture): &p.QEMU,
		"qemu-img":  &p.QEMUImg,
		"virtiofsd": &p.Virtiofsd,
	} {
		if *argv, err = tools.Argv(name); err != nil {
			return p, err
		}
	}
	return p, nil
}

// Doctor prints what this host can and cannot do, and fails when something
// must be mended first.
func (a *App) Doctor(ctx context.Context) error {
	checks := a.checks(ctx)
	bad := 0
	for _, c := range checks {
		mark := "ok  "
		if c.err != nil {
			mark = "FAIL"
			bad++
		}
		a.say("%s  %-18s %s", mark, c.name, c.detail())
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d checks failed", bad, len(checks))
	}
	return nil
}

// Workspace makes the workspace image into dist/: [--platform list]
// [--push reference] [--plain-http].
func (a *App) Workspace(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("workspace:image", flag.ContinueOnError)
	flags.SetOutput(a.Err)
	platforms := flags.String("platform", "", "platforms to build, such as linux/amd64,linux/arm64")
	push := flags.String("push", "", "reference to push to, such as registry.example/rockpool/workspace:trixie")
	flags.BoolVar(&a.Settings.PlainHTTP, "plain-http", a.Settings.PlainHTTP, "the registry to push to, and that of BASE, have no TLS, or a certificate nobody knows")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("workspace:image does not know %q", flags.Arg(0))
	}
	if *platforms != "" {
		a.Settings.Workspace.Platforms = strings.Split(*platforms, ",")
	}
	if err := a.Host.InstallMissing(ctx, a.Out); err != nil {
		return err
	}
	if err := a.Settings.EpochErr; err != nil {
		return err
	}
	m, err := a.workspaces().Build(ctx)
	if err != nil {
		return err
	}
	for _, f := range m.Artifacts {
		a.say("  %-44s %8.1f MB", filepath.Join("dist", f.File), float64(f.Size)/1e6)
	}
	if *push == "" {
		return nil
	}
	a.say("==> Push to %s", *push)
	if err := a.workspaces().Push(ctx, m, *push); err != nil {
		return err
	}
	a.say("pushed %s", m.Digest)
	return nil
}

// CleanWorkspace removes the layers of the workspace image from the cache.
func (a *App) CleanWorkspace(ctx context.Context) error { return a.workspaces().Clean(ctx) }

// Lock resolves the package locks anew.
func (a *App) Lock(ctx context.Context) error { return a.pipeline().Locks(ctx) }
