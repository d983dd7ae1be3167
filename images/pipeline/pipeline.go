// Package pipeline makes the workspace image from a checkout: it bootstraps the
// base, installs the npm locks, runs the builder, packs and records the result
// in dist/, and pushes it. What each step does is elsewhere. It owns the cache
// directory's workspace/, and bin/ together with builders/pipeline. Whatever is
// cut off can be run again. It must not import Buildah or a client of
// registries: they are processes of their own.
package pipeline

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/store"
	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/builders/userns"
	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/images"
)

// Pipeline builds workspace images of one checkout.
type Pipeline struct {
	// Spec is what to build, without its Revision, which the definition
	// decides. No time in the image is later than its SourceDateEpoch; the
	// package lock's may be earlier.
	Spec      images.Spec
	Source    string    // the checkout
	Dist      string    // where finished images go
	CacheDir  string    // can be deleted at any time
	Mirrors   []string  // Debian archives, tried in order; empty: the build host's own
	Force     bool      // build even when nothing changed
	PlainHTTP bool      // the registries of Spec.Base and of Push have no TLS, or a certificate nobody knows
	Out       io.Writer // progress for people
}

func (p *Pipeline) printLine(format string, args ...any) { fmt.Fprintf(p.Out, format+"\n", args...) }

// cache says on out what of it is damaged, and what is fetched from elsewhere.
func (p *Pipeline) cache(out io.Writer) bootstrap.Cache {
	return bootstrap.Cache{Dir: p.CacheDir, Say: func(line string) { fmt.Fprintln(out, " ", line) }}
}

// fetcher brings Debian packages into the cache and says its progress on out.
func (p *Pipeline) fetcher(out io.Writer) *bootstrap.Fetcher {
	return bootstrap.NewFetcher(p.cache(out), p.Mirrors, 5)
}

func (p *Pipeline) lock(ctx context.Context) (*os.File, error) {
	return p.cache(p.Out).Lock(ctx, func() { p.printLine("waiting for another build that uses %s", p.CacheDir) })
}

// Build makes the workspace image into dist/ and returns its manifest. When
// dist/ already holds the image of the same inputs it says so and does nothing,
// unless Force is set.
func (p *Pipeline) Build(ctx context.Context) (Manifest, error) {
	b, err := p.plan(ctx)
	if err != nil {
		return Manifest{}, err
	}
	cacheLock, err := p.lock(ctx)
	if err != nil {
		return Manifest{}, err
	}
	defer cacheLock.Close()
	return b.run(ctx, cacheLock)
}

// BuildLocked is Build for a caller that holds the lock of the cache.
func (p *Pipeline) BuildLocked(ctx context.Context, cacheLock *os.File) (Manifest, error) {
	b, err := p.plan(ctx)
	if err != nil {
		return Manifest{}, err
	}
	return b.run(ctx, cacheLock)
}

// Current reports whether dist/ holds the image that a build would make, so that
// Build has nothing to do.
func (p *Pipeline) Current(ctx context.Context) (bool, error) {
	b, err := p.plan(ctx)
	if err != nil {
		return false, err
	}
	_, ok := b.manifest()
	return ok, nil
}

// Clean removes the storage of layers, files of the user's subordinate ids
// included.
func (p *Pipeline) Clean(ctx context.Context) error {
	cacheLock, err := p.lock(ctx)
	if err != nil {
		return err
	}
	defer cacheLock.Close()
	ns, err := userns.New()
	if err != nil {
		return err
	}
	return ns.RemoveAll(filepath.Join(p.CacheDir, "workspace"))
}

// build is a build of the workspace image under way.
type build struct {
	Pipeline
	spec     images.Spec
	packages map[string]*bootstrap.PackageLock // by platform
	inputs   string                            // digest of everything the image is made from
}

// plan decides what to build. The newest time in the image is that of the
// package lock or the Spec's SourceDateEpoch, whichever is earlier, and the
// revision is that of the last change to the definition: a commit that changes
// something else does not make another image.
func (p *Pipeline) plan(ctx context.Context) (*build, error) {
	b := &build{Pipeline: *p, spec: p.Spec, packages: map[string]*bootstrap.PackageLock{}}
	b.spec.Revision = toolchain.RevisionOf(ctx, p.Source, definition...)
	for _, platform := range b.spec.Platforms {
		if !slices.Contains(images.Platforms, platform) {
			break // Validate says it better
		}
		packages, err := bootstrap.LoadPackageLock(b.spec.Suite, images.Architecture(platform), "workspace")
		if err != nil {
			return nil, err
		}
		b.packages[platform] = packages
		b.spec.SourceDateEpoch = min(b.spec.SourceDateEpoch, packages.Date.Unix())
	}
	if err := b.spec.Validate(); err != nil {
		return nil, err
	}

	var err error
	b.inputs, err = b.inputDigest(ctx)
	return b, err
}

// checkHost finds what would make the build fail late.
func (b *build) checkHost() error {
	if _, err := userns.New(); err != nil {
		return err
	}
	for _, platform := range b.spec.Platforms {
		if err := canRun(images.Architecture(platform)); err != nil {
			return err
		}
	}
	return bootstrap.SpaceForBuild(b.CacheDir, b.Source)
}

// run makes the image unless dist/ has it.
func (b *build) run(ctx context.Context, cacheLock *os.File) (Manifest, error) {
	if m, ok := b.manifest(); ok && !b.Force {
		b.printLine("%s", b.upToDate())
		return m, nil
	}
	if err := b.checkHost(); err != nil {
		return Manifest{}, err
	}

	start := time.Now()
	watch := builders.Stopwatch{Now: time.Now}
	request := b.request()
	if err := builders.CopyCheckout(request.Definition, filepath.Join(b.Source, "images", "workspace")); err != nil {
		return Manifest{}, err
	}
	bases := builders.Begin(ctx, func(ctx context.Context, out io.Writer) (bool, error) { return b.bases(ctx, out, request.Bases) })
	defer bases.End()
	err := watch.Do(b.Out,
		builders.Task{Name: "Compile the workspace image's builder", Run: func() (bool, error) { return false, b.compileBuilder(ctx) }},
		builders.Task{Name: "Fetch Node.js and code-server", Run: func() (bool, error) { return b.contexts(ctx, &request) }},
		builders.Task{Name: "Make the base from Debian packages", Run: func() (bool, error) { return bases.Wait(b.Out) }},
		builders.Task{Name: "Build the workspace image", Run: func() (bool, error) { return b.runBuilder(ctx, cacheLock, request) }},
		builders.Task{Name: "Pack as OCI archive", Run: func() (bool, error) { return false, b.layout().Archive(b.path(".oci.tar")) }},
	)
	if err != nil {
		return Manifest{}, err
	}

	m, err := b.record(ctx, watch.Steps)
	if err != nil {
		return m, err
	}
	b.printLine("built %s in %.0f s: %s", b.spec.Name(), time.Since(start).Seconds(), m.Digest)
	return m, builders.WriteAllChecksums(b.Dist)
}

// request is what the builder is asked for, without what the steps before it
// make.
func (b *build) request() images.Request {
	return images.Request{
		Spec:       b.spec,
		Bases:      map[string]images.Base{},
		Definition: filepath.Join(b.CacheDir, "workspace", "definition"),
		Contexts:   map[string]map[string]string{},
		Inputs:     map[string]string{},
		PlainHTTP:  b.PlainHTTP,
		Storage:    filepath.Join(b.CacheDir, "workspace", "storage"),
		Scratch:    filepath.Join(b.CacheDir, "workspace", "tmp"),
		Layout:     b.path(""),
	}
}

// contexts installs the npm locks for each platform and names what the steps
// mount then.
func (b *build) contexts(ctx context.Context, r *images.Request) (cached bool, err error) {
	tools, err := b.fetcher(b.Out).Tools(ctx)
	if err != nil {
		return false, err
	}
	modules := bootstrap.NodeModules{
		Cache: b.cache(b.Out), Source: b.Source, Installer: images.NodeLock, Tools: tools, Out: b.Out,
	}

	cached = true
	for _, platform := range b.spec.Platforms {
		mounted, err := b.mounted(platform)
		if err != nil {
			return false, err
		}
		r.Inputs[platform] = mounted[:32]
		r.Contexts[platform] = map[string]string{}
		for _, name := range []string{"node", "vscode"} {
			dir, had, err := modules.Install(ctx, "images/workspace/"+name, images.Architecture(platform))
			if err != nil {
				return false, err
			}
			r.Contexts[platform][name] = filepath.Dir(dir)
			cached = cached && had
		}
	}
	return cached, nil
}

// bases bootstraps our own base for each platform, and writes them to made.
func (b *build) bases(ctx context.Context, out io.Writer, made map[string]images.Base) (cached bool, err error) {
	if b.spec.Base != "" {
		fmt.Fprintf(out, "  from %s\n", b.spec.Base)
		return true, nil
	}

	fetcher := b.fetcher(out)
	cached = true
	for _, platform := range b.spec.Platforms {
		packages := b.packages[platform]
		a, had, err := fetcher.Bootstrap(ctx, packages)
		if err != nil {
			return false, err
		}
		made[platform] = images.Base{Archive: a.File, SHA256: a.SHA256, Created: packages.Date.Unix()}
		cached = cached && had
	}
	return cached, nil
}

// rootfsAt is where the Root VM's image has the workspace's root file system:
// rootfs/, config.json and digest. The agent looks there.
const rootfsAt = guest.WorkspaceDir

// Rootfs returns the workspace's root file system of an architecture, for the
// Root VM's image, and the digest that stands for it: an archive that is made
// when the cache has none of that digest.
func (p *Pipeline) Rootfs(ctx context.Context, m Manifest, architecture string) (file, digest string, err error) {
	platform := "linux/" + architecture
	i := slices.IndexFunc(m.Images, func(i Image) bool { return i.Platform == platform })
	if i < 0 {
		return "", "", fmt.Errorf("the workspace image is not of %s: set WORKSPACE_PLATFORMS to it", platform)
	}
	digest = m.Images[i].Digest
	recipe, err := p.rootfsRecipe(digest)
	if err != nil {
		return "", "", err
	}

	dir, _, err := p.cache(p.Out).Store().Make(ctx, recipe, func(ctx context.Context, dir string) error {
		return p.writeRootfs(ctx, m, architecture, filepath.Join(dir, rootfsArchive))
	})
	return filepath.Join(dir, rootfsArchive), digest, err
}

// rootfsArchive is the archive of a root file system, a file in the store.
const rootfsArchive = "root.tar"

// rootfsRecipe is what the archive of the root file system of an image is made
// from.
func (p *Pipeline) rootfsRecipe(digest string) (store.Recipe, error) {
	r := store.Recipe{Step: "workspace-rootfs"}
	r.Value("workspace image", digest)
	r.Value("place in the Root VM", rootfsAt)
	writer, err := builders.DigestSources(filepath.Join(p.Source, "images", "rootfs"))
	r.Value("what writes it", writer)
	return r, err
}
