//go:build mage

// Mage targets of the Rockpool Root VM, each one call. Those of the host are the
// verbs of the program rockpool (package host/cli), which in a checkout build
// what is missing; what can be set in the environment is listed in README.md.
package main

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/magefile/mage/mg"

	"github.com/rockpool/rootvm/builders/pipeline"
	"github.com/rockpool/rootvm/ci/suite"
	"github.com/rockpool/rootvm/host"
	"github.com/rockpool/rootvm/host/cli"
	"github.com/rockpool/rootvm/host/preflight"
)

// Rootvm builds the image.
type Rootvm mg.Namespace

// Vm runs the instance.
type Vm mg.Namespace

// Ws runs workspaces in the instance.
type Ws mg.Namespace

// Dev runs processes of the shared project in the VM.
type Dev mg.Namespace

// Workspace builds the image that workspaces run from.
type Workspace mg.Namespace

// Cache keeps what builds made.
type Cache mg.Namespace

// Up starts everything: installs host packages, builds the image when there is none, boots it.
func Up(ctx context.Context) error { return verb(ctx, "up") }

// Down stops the instance cleanly.
func Down(ctx context.Context) error { return verb(ctx, "down") }

// Setup installs the host packages that are missing, and nothing else.
func Setup(ctx context.Context) error { return verb(ctx, "setup") }

// SetupE2e installs the host packages of the end-to-end tests too: Chromium, Node.js, npm.
func SetupE2e(ctx context.Context) error { return check(ctx, (*suite.Suite).SetupE2E) }

// Doctor says what this host can and cannot do.
func Doctor(ctx context.Context) error { return verb(ctx, "doctor") }

// Test runs the tests that need no root, no VM and no network.
func Test(ctx context.Context) error { return check(ctx, (*suite.Suite).Test) }

// Check runs the linters: gofmt, go vet, staticcheck, import directions.
func Check(ctx context.Context) error { return check(ctx, (*suite.Suite).Check) }

// E2e builds the image and tests it for real: boots, kills, shares, data, browser. RUNTIME=stub: the browser's tests without a VM; E2E_GROUP=NAME: one group of the long tests.
func E2e(ctx context.Context) error { return check(ctx, (*suite.Suite).E2E) }

// Rockpool compiles the host program into dist/ for Linux and macOS.
func Rockpool(ctx context.Context) error { return build(ctx, (*pipeline.Pipeline).MakeRockpool) }

// Release makes all that a release has, from a clean tagged tree, into dist/release/: VERSION [--key FILE].
func Release(ctx context.Context) error {
	return buildWith(ctx, "release", func(p *pipeline.Pipeline, args []string) error { return p.Release(ctx, args) })
}

// Build makes the image of SUITE, ARCH, FORMATS and DISK_SIZE into dist/.
func (Rootvm) Build(ctx context.Context) error { return build(ctx, (*pipeline.Pipeline).Make) }

// Verify checks FILE offline against its manifest, or builds the image of dist/ again from nothing and compares: [FILE] [--manifest FILE].
func (Rootvm) Verify(ctx context.Context) error {
	return buildWith(ctx, "rootvm:verify", func(p *pipeline.Pipeline, args []string) error { return p.Verify(ctx, args) })
}

// Lock resolves the package locks anew (maintainers).
func (Rootvm) Lock(ctx context.Context) error { return build(ctx, (*pipeline.Pipeline).Locks) }

// Push copies the image's Tart artifact in dist/ to a registry: reference [--plain-http].
func (Rootvm) Push(ctx context.Context) error {
	return buildWith(ctx, "rootvm:push", func(p *pipeline.Pipeline, args []string) error { return p.Push(ctx, args) })
}

// Image makes the workspace image into dist/: [--platform list] [--push reference] [--plain-http].
func (Workspace) Image(ctx context.Context) error {
	return buildWith(ctx, "workspace:image", func(p *pipeline.Pipeline, args []string) error { return p.Workspaces().Command(ctx, args) })
}

// Clean removes the layers of the workspace image from the cache.
func (Workspace) Clean(ctx context.Context) error {
	return build(ctx, func(p *pipeline.Pipeline, ctx context.Context) error { return p.Workspaces().Clean(ctx) })
}

// List lists what builds made and when it was used.
func (Cache) List(ctx context.Context) error { return build(ctx, (*pipeline.Pipeline).ListCache) }

// Prune removes what no build used for 60 days, and what is over ROCKPOOL_CACHE_SIZE.
func (Cache) Prune(ctx context.Context) error { return build(ctx, (*pipeline.Pipeline).PruneCache) }

// Why says of which inputs the last two results of a step differ: STEP.
func (Cache) Why(ctx context.Context) error {
	return buildWith(ctx, "cache:why", func(p *pipeline.Pipeline, args []string) error { return p.WhyCache(args) })
}

// Start starts the instance and waits until it serves.
func (Vm) Start(ctx context.Context) error { return verb(ctx, "vm", "start") }

// Stop stops the instance cleanly.
func (Vm) Stop(ctx context.Context) error { return verb(ctx, "vm", "stop") }

// Password prints the dashboard's generated password.
func (Vm) Password(ctx context.Context) error { return verb(ctx, "vm", "password") }

// Status prints the instance's state and the time of every boot phase: [--json].
func (Vm) Status(ctx context.Context) error { return verbWith(ctx, "vm", "status") }

// Logs prints a unit's journal, or the serial log: [-f] [-n lines] [unit].
func (Vm) Logs(ctx context.Context) error { return verbWith(ctx, "vm", "logs") }

// Destroy deletes the instance and its data after asking: [--yes].
func (Vm) Destroy(ctx context.Context) error { return verbWith(ctx, "vm", "destroy") }

// Ssh opens a shell in the VM or runs a command there: [--] [command].
func (Vm) Ssh(ctx context.Context) error { return verbWith(ctx, "vm", "ssh") }

// Start runs a PM2 ecosystem file of the shared project in the VM: [--ecosystem FILE] [--env-file FILE] [--port P]... [--take-ports] [--restore].
func (Dev) Start(ctx context.Context) error { return verbWith(ctx, "dev", "start") }

// Stop ends the project's processes in the VM.
func (Dev) Stop(ctx context.Context) error { return verb(ctx, "dev", "stop") }

// Logs prints what the project's processes wrote: [-f] [-n lines] [process].
func (Dev) Logs(ctx context.Context) error { return verbWith(ctx, "dev", "logs") }

// Status prints the project's processes, their restarts and ports: [--json].
func (Dev) Status(ctx context.Context) error { return verbWith(ctx, "dev", "status") }

// List lists the workspaces: [--json].
func (Ws) List(ctx context.Context) error { return verbWith(ctx, "ws", "list") }

// Create creates a workspace: NAME [--repository R] [--image I] [--token-stdin] [--no-wait] [--json].
func (Ws) Create(ctx context.Context) error { return verbWith(ctx, "ws", "create") }

// Start starts a workspace: NAME [--no-wait] [--json].
func (Ws) Start(ctx context.Context) error { return verbWith(ctx, "ws", "start") }

// Stop stops a workspace: NAME [--no-wait] [--json].
func (Ws) Stop(ctx context.Context) error { return verbWith(ctx, "ws", "stop") }

// Rm deletes a workspace with its files: NAME [--no-wait].
func (Ws) Rm(ctx context.Context) error { return verbWith(ctx, "ws", "rm") }

// Logs prints what a workspace's processes wrote: NAME [-f] [-n lines] [--steps].
func (Ws) Logs(ctx context.Context) error { return verbWith(ctx, "ws", "logs") }

// Open prints the address of a workspace's IDE: NAME.
func (Ws) Open(ctx context.Context) error { return verbWith(ctx, "ws", "open") }

// load reads the settings of builds from the environment, for the checkout in
// the current directory.
func load(out io.Writer) (*pipeline.Pipeline, error) {
	source, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	env := pipeline.Environment{Getenv: os.Getenv, HomeDir: os.UserHomeDir, CommitTime: pipeline.GitCommitTime}
	return pipeline.Load(source, env, out)
}

// program is the host program in a checkout: it builds the image when there is
// none, and itself, to be the supervisor.
func program(p *pipeline.Pipeline) host.Program {
	return host.Program{
		Command: host.MageCommand,
		Supervisor: func(ctx context.Context) ([]string, error) {
			file, err := p.Rockpool(ctx)
			return []string{file, host.SuperviseVerb}, err
		},
		Image: func(ctx context.Context, out io.Writer) (string, error) {
			p.Out = out
			return p.Image(ctx)
		},
		Checkout: p.Source,
		Checks:   p.Checks,
		Needs:    preflight.Building(),
	}
}

func surroundings(p *pipeline.Pipeline) host.Surroundings {
	return host.Surroundings{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, HomeDir: os.UserHomeDir, Dir: p.Source,
	}
}

// verb runs a verb of the host program.
func verb(ctx context.Context, words ...string) error {
	p, err := load(os.Stdout)
	if err != nil {
		return err
	}
	if code := cli.Run(ctx, words, program(p), surroundings(p)); code != 0 {
		os.Exit(code) // it has said why
	}
	return nil
}

// verbWith runs a verb of the host program with the rest of the command line.
func verbWith(ctx context.Context, words ...string) error {
	args := rest(strings.Join(words, ":"))
	err := verb(ctx, append(words, args...)...)
	return ended(err, args)
}

// build runs a target that builds, once the host packages are there.
func build(ctx context.Context, target func(*pipeline.Pipeline, context.Context) error) error {
	p, err := load(os.Stdout)
	if err != nil {
		return err
	}
	if err := preflight.ThisHost(preflight.Building()).InstallMissing(ctx, os.Stdout); err != nil {
		return err
	}
	return target(p, ctx)
}

// buildWith is build for a target that takes the rest of the command line.
func buildWith(ctx context.Context, name string, target func(p *pipeline.Pipeline, args []string) error) error {
	args := rest(name)
	err := build(ctx, func(p *pipeline.Pipeline, _ context.Context) error { return target(p, args) })
	return ended(err, args)
}

// check runs a target of the suite of tests.
func check(ctx context.Context, target func(*suite.Suite, context.Context) error) error {
	p, err := load(os.Stdout)
	if err != nil {
		return err
	}
	around := surroundings(p)
	app := host.NewApp(program(p), around)
	if err := app.Load(around, nil, host.Starting); err != nil {
		return err
	}
	return target(&suite.Suite{Pipeline: p, App: app, Packages: app.Packages, Getenv: os.Getenv, Out: os.Stdout, Err: os.Stderr}, ctx)
}

// rest returns the words after target on the command line.
func rest(target string) []string {
	i := slices.IndexFunc(os.Args, func(s string) bool { return strings.EqualFold(s, target) })
	return os.Args[i+1:]
}

// ended ends the process after a target that took arguments, which mage would
// take for further targets.
func ended(err error, args []string) error {
	if err == nil && len(args) > 0 {
		os.Exit(0)
	}
	return err
}
