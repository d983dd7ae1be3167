// Package build makes the Root VM's image from a checkout: it compiles what
// goes into the image, stages it, brings Packer and the plugin together and
// puts the finished files into dist/. It owns the cache directory's bin/,
// packer/, npm/ and work/. Whatever is cut off can be run again.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/userns"
	"github.com/rockpool/rootvm/ci/settings"
)

// Pipeline builds one image.
type Pipeline struct {
	Settings settings.Settings
	Out      io.Writer // progress for people
}

// fetcher returns what brings Debian packages and the tools tree into the
// cache, saying its progress on p.Out.
func (p *Pipeline) fetcher(ctx context.Context) (*bootstrap.Fetcher, error) {
	mirrors := p.Settings.Mirrors
	if len(mirrors) == 0 {
		var err error
		if mirrors, err = bootstrap.DefaultMirrors(ctx); err != nil {
			return nil, err
		}
	}
	return &bootstrap.Fetcher{
		Cache:    bootstrap.Cache{Dir: p.Settings.CacheDir},
		Mirrors:  mirrors,
		Progress: p.bytesProgress(),
	}, nil
}

// bytesProgress prints a line for every fifth part done.
func (p *Pipeline) bytesProgress() func(done, total int64, name string) {
	last := int64(-1)
	return func(done, total int64, _ string) {
		if total == 0 || done*5/total == last {
			return
		}
		last = done * 5 / total
		p.say("  %d of %d MB", done/1e6, total/1e6)
	}
}

func (p *Pipeline) say(format string, args ...any) { fmt.Fprintf(p.Out, format+"\n", args...) }

// Manifest returns the manifest of the image in dist/, if there is a whole one.
func (p *Pipeline) Manifest() (builders.Manifest, bool) {
	m, err := builders.ReadManifest(p.dist(".manifest.json"))
	if err != nil {
		return m, false
	}
	for _, a := range m.Artifacts {
		if st, err := os.Stat(filepath.Join(p.Settings.Dist, a.File)); err != nil || st.Size() != a.Size {
			return m, false
		}
	}
	for _, format := range p.Settings.Spec.Formats {
		if _, ok := m.Artifact(format); !ok {
			return m, false
		}
	}
	return m, true
}

// Build makes the image and returns its manifest. When dist/ already holds the
// image of the same inputs it says so and does nothing, unless FORCE is set.
func (p *Pipeline) Build(ctx context.Context) (builders.Manifest, error) {
	var none builders.Manifest
	if err := p.checkHost(); err != nil {
		return none, err
	}
	lock, err := p.lock(ctx)
	if err != nil {
		return none, err
	}
	defer lock.Close()

	start := time.Now()
	watch := builders.Stopwatch{Now: time.Now}
	packer, compiled, err := p.findPacker(ctx)
	if err != nil {
		return none, err
	}
	defer compiled.end()
	root := p.begin(ctx, func(ctx context.Context, p *Pipeline) (bool, error) { return p.bootstrap(ctx) })
	defer root.end()
	stage := filepath.Join(p.Settings.CacheDir, "stage", p.Settings.Spec.Name())
	w, err := p.newWorkspace(ctx)
	if err != nil {
		return none, err
	}
	carried, workspace, err := p.carry(ctx, w, lock)
	if err != nil {
		return none, err
	}
	var tools *bootstrap.Tools
	var node string
	steps := []struct {
		name string
		run  func() (bool, error)
	}{
		{"Compile the agent, the queue and the Packer plugin", func() (bool, error) { return false, p.compile(ctx, stage) }},
		{"Fetch the tools tree", func() (cached bool, err error) { tools, err = p.Tools(ctx); return false, err }},
		{"Fetch Node.js, npm and PM2", func() (cached bool, err error) {
			node, cached, err = p.node(ctx, tools, "provision/npm", p.Settings.Spec.Architecture)
			return cached, err
		}},
		{"Wait for Packer", func() (bool, error) { return compiled.wait(p.Out) }},
	}
	for _, s := range steps {
		p.say("==> %s", s.name)
		if err := watch.Time(s.name, s.run); err != nil {
			return none, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	inputs, err := p.inputs(stage, workspace)
	if err != nil {
		return none, err
	}
	if m, ok := p.Manifest(); ok && m.InputDigest == inputs && !p.Settings.Force {
		p.say("%s is up to date: nothing that goes into it has changed", p.Settings.Spec.Name())
		return m, nil
	}
	p.say("==> Wait for the root file system")
	if err := watch.Time("Wait for the root file system", func() (bool, error) { return root.wait(p.Out) }); err != nil {
		return none, fmt.Errorf("bootstrap the root file system: %w", err)
	}
	out, err := p.runPacker(ctx, lock, packer, stage, node, carried, inputs)
	if err != nil {
		return none, err
	}
	m, err := p.promote(out, watch.Steps)
	if err != nil {
		return none, err
	}
	p.say("built %s in %.0f s", p.Settings.Spec.Name(), time.Since(start).Seconds())
	return m, nil
}

// checkHost finds what would make the build fail late.
func (p *Pipeline) checkHost() error {
	if err := p.Settings.EpochErr; err != nil {
		return err
	}
	if p.Settings.Spec.Architecture != hostArchitecture() {
		return fmt.Errorf("ARCH=%s cannot be built on this %s host yet: use ARCH=%s", p.Settings.Spec.Architecture, hostArchitecture(), hostArchitecture())
	}
	if _, err := userns.New(); err != nil {
		return err
	}
	if err := os.MkdirAll(p.Settings.CacheDir, 0o755); err != nil {
		return fmt.Errorf("make the cache directory: %w", err)
	}
	return errors.Join(
		needSpace(p.Settings.CacheDir, 6*builders.GiB, "set ROCKPOOL_CACHE to a directory elsewhere"),
		needSpace(p.Settings.Source, 2*builders.GiB, "move the checkout"),
	)
}

// Tools returns the tools tree. It looks for mirrors, and fetches, only when
// the cache has none.
func (p *Pipeline) Tools(ctx context.Context) (*bootstrap.Tools, error) {
	if tools, ok := (bootstrap.Cache{Dir: p.Settings.CacheDir}).CachedTools(); ok {
		return tools, nil
	}
	f, err := p.fetcher(ctx)
	if err != nil {
		return nil, err
	}
	return f.Tools(ctx)
}

// bootstrap makes the cache hold the root file system that Packer starts from.
func (p *Pipeline) bootstrap(ctx context.Context) (cached bool, err error) {
	lock, err := bootstrap.Lock(p.Settings.Spec.Suite, p.Settings.Spec.Architecture, "rootvm")
	if err != nil {
		return false, err
	}
	_, cached, err = p.rootfs(ctx, lock)
	return cached, err
}

// rootfs returns the root file system of a package lock, from the cache or made.
func (p *Pipeline) rootfs(ctx context.Context, lock *bootstrap.PackageLock) (a bootstrap.Archive, cached bool, err error) {
	cache := bootstrap.Cache{Dir: p.Settings.CacheDir}
	if a, ok, err := cache.CachedRootfs(ctx, lock); ok || err != nil {
		return a, ok, err
	}
	ns, err := userns.New()
	if err != nil {
		return a, false, err
	}
	f, err := p.fetcher(ctx)
	if err != nil {
		return a, false, err
	}
	if err := f.Fetch(ctx, lock); err != nil {
		return a, false, err
	}
	return f.RootfsArchive(ctx, ns, lock)
}

func (p *Pipeline) dist(suffix string) string {
	return filepath.Join(p.Settings.Dist, p.Settings.Spec.Name()+suffix)
}

// promote moves the finished files into dist/, the manifest last, so that an
// interruption leaves either the old image or the new one named by a manifest.
func (p *Pipeline) promote(out string, before []builders.Step) (builders.Manifest, error) {
	name := p.Settings.Spec.Name()
	m, err := builders.ReadManifest(filepath.Join(out, name+".manifest.json"))
	if err != nil {
		return m, err
	}
	m.Steps = slices.Concat(before, m.Steps)
	if err := os.MkdirAll(p.Settings.Dist, 0o755); err != nil {
		return m, err
	}
	if err := os.Remove(p.dist(".manifest.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return m, err
	}
	for _, a := range m.Artifacts {
		if err := move(filepath.Join(out, a.File), filepath.Join(p.Settings.Dist, a.File)); err != nil {
			return m, fmt.Errorf("put %s into dist: %w", a.File, err)
		}
	}
	if err := m.Write(p.dist(".manifest.json")); err != nil {
		return m, err
	}
	return m, p.checksums()
}

// checksums lists every image in dist/.
func (p *Pipeline) checksums() error {
	paths, err := filepath.Glob(filepath.Join(p.Settings.Dist, "*.manifest.json"))
	if err != nil {
		return err
	}
	var all []builders.Manifest
	for _, path := range paths {
		m, err := builders.ReadManifest(path)
		if err != nil {
			return err
		}
		all = append(all, m)
	}
	return builders.WriteChecksums(filepath.Join(p.Settings.Dist, "SHA256SUMS"), all...)
}

// move renames, or copies where the two lie on different file systems. The
// target is replaced in one step: a VM that runs from the old file keeps it.
func move(from, to string) error {
	if err := os.Rename(from, to); err == nil {
		return nil
	}
	tmp := to + ".part"
	if err := exec.Command("cp", "--sparse=always", from, tmp).Run(); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if err := os.Rename(tmp, to); err != nil {
		return err
	}
	return os.Remove(from)
}

// Older tells in a sentence that the image is not of the checkout's revision,
// or nothing.
func (p *Pipeline) Older(ctx context.Context, m builders.Manifest) string {
	now := revision(ctx, p.Settings.Source)
	if now == "" || now == m.Revision {
		return ""
	}
	return fmt.Sprintf("the image is of revision %s, the checkout of %s: `go tool mage rootvm:build` updates it", m.Revision, now)
}

// revision names the sources: the commit, with "-dirty" when files differ.
// With paths, only changes below those count.
func revision(ctx context.Context, dir string, paths ...string) string {
	if len(paths) == 0 {
		out, err := exec.CommandContext(ctx, "git", "-C", dir, "describe", "--always", "--abbrev=12", "--dirty").Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir, "log", "-1", "--format=%H", "--"}, paths...)...).Output()
	if err != nil || len(out) < 12 {
		return ""
	}
	commit := string(out[:12])
	if exec.CommandContext(ctx, "git", append([]string{"-C", dir, "diff", "--quiet", "HEAD", "--"}, paths...)...).Run() != nil {
		commit += "-dirty"
	}
	return commit
}
