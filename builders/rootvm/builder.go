package rootvm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/communicator"
	"github.com/rockpool/rootvm/builders/userns"
)

// BuilderID is how Packer tells our artifacts from others'.
const BuilderID = "rockpool.rootvm"

// Builder makes a Root VM's disk. Its life cycle is Packer's: Prepare, then
// perhaps Run.
type Builder struct {
	config Config
}

var _ packersdk.Builder = (*Builder)(nil)

// ConfigSpec is the HCL schema of [Config].
func (b *Builder) ConfigSpec() hcldec.ObjectSpec { return b.config.FlatMapstructure().HCL2Spec() }

// Prepare validates the configuration. It has no effects.
func (b *Builder) Prepare(raws ...any) ([]string, []string, error) {
	return nil, nil, b.config.decode(raws...)
}

// Run builds the disk and returns it as an artifact that holds the raw disk,
// the kernel, the initrd and the manifest. A failed or cancelled run leaves
// the output directory as it was.
func (b *Builder) Run(ctx context.Context, ui packersdk.Ui, hook packersdk.Hook) (packersdk.Artifact, error) {
	ns, err := userns.New()
	if err != nil {
		return nil, err
	}
	run := &run{
		config: b.config,
		hook:   hook,
		spec:   b.config.Spec,
		ns:     ns,
		ui:     ui,
		watch:  builders.Stopwatch{Now: time.Now},
	}

	state := new(multistep.BasicStateBag)
	runner := &multistep.BasicRunner{Steps: run.steps()}
	runner.Run(ctx, state)

	if err, ok := state.GetOk("error"); ok {
		return nil, err.(error)
	}
	if _, ok := state.GetOk(multistep.StateCancelled); ok {
		return nil, errors.New("build cancelled; what was finished is kept in the cache")
	}
	if _, ok := state.GetOk(multistep.StateHalted); ok {
		return nil, errors.New("build halted")
	}
	return &Artifact{Manifest: run.manifestPath(), Raw: b.config.path(".raw"), Name: run.spec.Name()}, nil
}

// run is one build under way: what the steps hand to each other.
type run struct {
	config Config
	spec   builders.Spec
	ns     *userns.Namespace
	hook   packersdk.Hook
	ui     packersdk.Ui
	watch  builders.Stopwatch

	fetcher  *bootstrap.Fetcher
	packages *bootstrap.PackageLock
	tools    *bootstrap.Tools
	layers   *communicator.Layers
}

// step is one named part of the build. Packer runs the steps in order and
// their cleanups in reverse.
type step struct {
	name    string
	run     func(ctx context.Context) (cached bool, err error)
	cleanup func() error
	build   *run
}

func (s *step) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	s.build.ui.Say(s.name)
	err := s.build.watch.Time(s.name, func() (bool, error) { return s.run(ctx) })
	if err != nil {
		state.Put("error", fmt.Errorf("%s: %w", s.name, err))
		return multistep.ActionHalt
	}
	last := s.build.watch.Steps[len(s.build.watch.Steps)-1]
	s.build.ui.Say(describe(last))
	return multistep.ActionContinue
}

func describe(s builders.Step) string {
	if s.Cached {
		return fmt.Sprintf("done in %.1f s (cached)", s.Seconds)
	}
	return fmt.Sprintf("done in %.1f s", s.Seconds)
}

func (s *step) Cleanup(multistep.StateBag) {
	if s.cleanup == nil {
		return
	}
	if err := s.cleanup(); err != nil {
		s.build.ui.Error(fmt.Sprintf("clean up after %q: %v", s.name, err))
		slog.Warn("clean up", "step", s.name, "err", err)
	}
}

// Artifact is the set of files of one built image. Its raw disk is an
// intermediate: Destroy removes that and leaves the finished files.
type Artifact struct {
	Manifest string // path of the manifest
	Raw      string // path of the raw disk
	Name     string // stem of the file names
}

var _ packersdk.Artifact = (*Artifact)(nil)

// BuilderId implements Packer's Artifact.
func (a *Artifact) BuilderId() string { return BuilderID }

// Id implements Packer's Artifact.
func (a *Artifact) Id() string { return a.Name }

// Files lists the raw disk first, then the manifest.
func (a *Artifact) Files() []string { return []string{a.Raw, a.Manifest} }

// String says what was built.
func (a *Artifact) String() string { return "Root VM image " + a.Name + ": " + a.Manifest }

// State implements Packer's Artifact; it has none.
func (a *Artifact) State(string) any { return nil }

// Destroy removes the raw disk.
func (a *Artifact) Destroy() error {
	if err := os.Remove(a.Raw); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove raw disk: %w", err)
	}
	return nil
}
