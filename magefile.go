//go:build mage

// Mage targets of the Rockpool Root VM. Each parses nothing, calls one method
// of package targets and returns; what can be set in the environment is listed
// in README.md.
package main

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/magefile/mage/mg"

	"github.com/rockpool/rootvm/ci/targets"
)

// Rootvm builds the image.
type Rootvm mg.Namespace

// Vm runs the instance.
type Vm mg.Namespace

// Ws runs workspaces in the instance.
type Ws mg.Namespace

// Workspace builds the image that workspaces run from.
type Workspace mg.Namespace

// with runs a target that takes no arguments.
func with(ctx context.Context, f func(*targets.App, context.Context) error) error {
	app, err := targets.New()
	if err != nil {
		return err
	}
	return f(app, ctx)
}

// withArgs runs a target that takes the rest of the command line.
func withArgs(ctx context.Context, target string, f func(*targets.App, context.Context, []string) error) error {
	app, err := targets.New()
	if err != nil {
		return err
	}
	args := rest(target)
	if err := f(app, ctx, args); err != nil || len(args) == 0 {
		return err
	}
	os.Exit(0) // mage would take the arguments for further targets
	return nil
}

// rest returns the words after target on the command line.
func rest(target string) []string {
	i := slices.IndexFunc(os.Args, func(s string) bool { return strings.EqualFold(s, target) })
	return os.Args[i+1:]
}

// Up starts everything: installs host packages, builds the image when there is none, boots it.
func Up(ctx context.Context) error { return with(ctx, (*targets.App).Up) }

// Down stops the instance cleanly.
func Down(ctx context.Context) error { return with(ctx, (*targets.App).Stop) }

// Setup installs the host packages that are missing, and nothing else.
func Setup(ctx context.Context) error { return with(ctx, (*targets.App).Setup) }

// SetupE2e installs the host packages of the end-to-end tests too: Chromium, Node.js, npm.
func SetupE2e(ctx context.Context) error { return with(ctx, (*targets.App).SetupE2E) }

// Doctor says what this host can and cannot do.
func Doctor(ctx context.Context) error { return with(ctx, (*targets.App).Doctor) }

// Test runs the tests that need no root, no VM and no network.
func Test(ctx context.Context) error { return with(ctx, (*targets.App).Test) }

// Check runs the linters: gofmt, go vet, staticcheck, import directions.
func Check(ctx context.Context) error { return with(ctx, (*targets.App).Check) }

// E2e builds the image and tests it for real: boots, kills, shares, data, browser. RUNTIME=stub: the browser's tests without a VM.
func E2e(ctx context.Context) error { return with(ctx, (*targets.App).E2E) }

// Build makes the image of SUITE, ARCH, FORMATS and DISK_SIZE into dist/.
func (Rootvm) Build(ctx context.Context) error { return with(ctx, (*targets.App).Build) }

// Lock resolves the package locks anew (maintainers).
func (Rootvm) Lock(ctx context.Context) error { return with(ctx, (*targets.App).Lock) }

// Image makes the workspace image into dist/: [--platform list] [--push reference].
func (Workspace) Image(ctx context.Context) error {
	return withArgs(ctx, "workspace:image", (*targets.App).Workspace)
}

// Clean removes the layers of the workspace image from the cache.
func (Workspace) Clean(ctx context.Context) error { return with(ctx, (*targets.App).CleanWorkspace) }

// Start starts the instance and waits until it serves.
func (Vm) Start(ctx context.Context) error { return with(ctx, (*targets.App).Start) }

// Stop stops the instance cleanly.
func (Vm) Stop(ctx context.Context) error { return with(ctx, (*targets.App).Stop) }

// Password prints the dashboard's generated password.
func (Vm) Password(ctx context.Context) error { return with(ctx, (*targets.App).Password) }

// Status prints the instance's state and the time of every boot phase: [--json].
func (Vm) Status(ctx context.Context) error {
	return withArgs(ctx, "vm:status", (*targets.App).Status)
}

// Logs prints a unit's journal, or the serial log: [-f] [-n lines] [unit].
func (Vm) Logs(ctx context.Context) error { return withArgs(ctx, "vm:logs", (*targets.App).Logs) }

// Destroy deletes the instance and its data after asking: [--yes].
func (Vm) Destroy(ctx context.Context) error {
	return withArgs(ctx, "vm:destroy", (*targets.App).Destroy)
}

// Ssh opens a shell in the VM or runs a command there: [--] [command].
func (Vm) Ssh(ctx context.Context) error {
	app, err := targets.New()
	if err != nil {
		return err
	}
	code, err := app.SSH(ctx, rest("vm:ssh"))
	if err != nil {
		return err
	}
	os.Exit(code)
	return nil
}

// List lists the workspaces: [--json].
func (Ws) List(ctx context.Context) error { return workspace(ctx, "list") }

// Create creates a workspace: NAME [--repository R] [--image I] [--token-stdin] [--no-wait] [--json].
func (Ws) Create(ctx context.Context) error { return workspace(ctx, "create") }

// Start starts a workspace: NAME [--no-wait] [--json].
func (Ws) Start(ctx context.Context) error { return workspace(ctx, "start") }

// Stop stops a workspace: NAME [--no-wait] [--json].
func (Ws) Stop(ctx context.Context) error { return workspace(ctx, "stop") }

// Rm deletes a workspace with its files: NAME [--no-wait].
func (Ws) Rm(ctx context.Context) error { return workspace(ctx, "rm") }

// Logs prints what a workspace's processes wrote: NAME [-f] [-n lines] [--steps].
func (Ws) Logs(ctx context.Context) error { return workspace(ctx, "logs") }

// Open prints the address of a workspace's IDE: NAME.
func (Ws) Open(ctx context.Context) error { return workspace(ctx, "open") }

// workspace runs a command of the agent on workspaces and ends with its exit
// code.
func workspace(ctx context.Context, verb string) error {
	app, err := targets.New()
	if err != nil {
		return err
	}
	code, err := app.Workspaces(ctx, verb, rest("ws:"+verb))
	if err != nil {
		return err
	}
	os.Exit(code)
	return nil
}
