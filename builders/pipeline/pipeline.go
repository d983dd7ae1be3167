// Package pipeline makes the Root VM's image from a checkout: it has the
// workspace image made, compiles what goes into the image, stages it, brings
// Packer and the plugin together and puts the finished files into dist/. It
// shapes no bytes itself. It owns the cache directory's packer/, stage/ and
// work/, and bin/ together with images/pipeline. Whatever is cut off can be run
// again. It must not import Packer's SDK, which is the plugin's.
package pipeline

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/builders/userns"
	"github.com/rockpool/rootvm/images"
)

// Pipeline builds Root VM images of one checkout.
type Pipeline struct {
	Spec           builders.Spec
	WorkspaceImage images.Spec // of the workspace image that goes into it
	Source         string      // the checkout
	Dist           string      // where finished images go
	CacheDir       string      // can be deleted at any time
	CacheSize      int64       // bytes that the cache's store may keep
	Mirrors        []string    // Debian archives, tried in order; empty: the build host's own
	Force          bool        // build even when nothing changed
	PlainHTTP      bool        // the registry of WorkspaceImage.Base has no TLS
	Out            io.Writer   // progress for people

	epochFault error // why Spec has no SourceDateEpoch
}

func (p *Pipeline) printLine(format string, args ...any) { fmt.Fprintf(p.Out, format+"\n", args...) }

// cache says on out what of it is damaged.
func (p *Pipeline) cache(out io.Writer) bootstrap.Cache {
	return bootstrap.Cache{Dir: p.CacheDir, Say: func(line string) { fmt.Fprintln(out, " ", line) }}
}

// fetcher brings Debian packages into the cache and says its progress on out.
func (p *Pipeline) fetcher(out io.Writer) *bootstrap.Fetcher {
	return bootstrap.NewFetcher(p.cache(out), p.Mirrors, 5)
}

// Tools returns the tools tree. It fetches only what the cache lacks.
func (p *Pipeline) Tools(ctx context.Context) (*bootstrap.Tools, error) {
	return p.fetcher(p.Out).Tools(ctx)
}

// Build makes the image and returns its manifest. When dist/ already holds the
// image of the same inputs it says so and does nothing, unless Force is set.
func (p *Pipeline) Build(ctx context.Context) (builders.Manifest, error) {
	var none builders.Manifest
	if err := p.checkHost(); err != nil {
		return none, err
	}
	cacheLock, err := p.lock(ctx)
	if err != nil {
		return none, err
	}
	defer cacheLock.Close()
	if err := p.settle(); err != nil {
		return none, err
	}

	// Both are asked for before anything is compiled: what changes meanwhile
	// makes the image older.
	from, err := p.origin(ctx)
	if err != nil {
		return none, err
	}
	if m, same := p.sameOrigin(ctx, from, p.Workspaces().Current); same {
		p.printLine("%s", p.upToDate())
		return p.confirm(m, from)
	}
	if m, ok := p.Manifest(); !ok || m.SourceDigest != from.sources || p.Force {
		if err := p.checkSpace(); err != nil {
			return none, err
		}
	}

	start := time.Now()
	watch := builders.Stopwatch{Now: time.Now}
	packer, packerCompiled, err := p.findPacker(ctx)
	if err != nil {
		return none, err
	}
	defer packerCompiled.End()

	root := builders.Begin(ctx, p.bootstrap)
	defer root.End()

	parts, err := p.makeParts(ctx, cacheLock, &watch, packerCompiled)
	if err != nil {
		return none, err
	}
	if m, ok := p.Manifest(); ok && m.InputDigest == parts.inputs && !p.Force {
		p.printLine("%s", p.upToDate())
		return p.confirm(m, from)
	}
	if err := p.checkSpace(); err != nil { // another compiler makes another image of the same sources
		return none, err
	}
	err = watch.Do(p.Out, builders.Task{Name: "Wait for the root file system", Run: func() (bool, error) { return root.Wait(p.Out) }})
	if err != nil {
		return none, err
	}

	parts.revision = from.revision
	out, err := p.runPacker(ctx, cacheLock, packer, parts)
	if err != nil {
		return none, err
	}
	if err := p.addBill(ctx, out, parts.workspaceDigest); err != nil {
		return none, fmt.Errorf("bill of materials: %w", err)
	}
	if err := p.addProvenance(ctx, out, parts, from); err != nil {
		return none, err
	}
	m, err := p.promote(out, watch.Steps, from)
	if err != nil {
		return none, err
	}
	if _, err := p.prune(); err != nil {
		p.printLine("the cache could not be pruned: %v", err)
	}
	p.printLine("built %s in %.0f s", p.Spec.Name(), time.Since(start).Seconds())
	return m, nil
}

func (p *Pipeline) upToDate() string {
	return p.Spec.Name() + " is up to date: nothing that goes into it has changed"
}

// makeParts makes what Packer puts into the image, waits for Packer itself, and
// names everything that the image is made from.
func (p *Pipeline) makeParts(ctx context.Context, cacheLock *os.File, watch *builders.Stopwatch, packerCompiled *builders.Background) (made, error) {
	rootfs, digest, err := p.workspaceImage(ctx, cacheLock)
	if err != nil {
		return made{}, err
	}

	parts := made{workspaceRootfs: rootfs, workspaceDigest: digest}
	var tools *bootstrap.Tools
	err = watch.Do(p.Out,
		builders.Task{Name: "Compile the agent, the queue and the Packer plugin", Run: func() (bool, error) { return false, p.compile(ctx) }},
		builders.Task{Name: "Fetch the tools tree", Run: func() (cached bool, err error) { tools, err = p.Tools(ctx); return false, err }},
		builders.Task{Name: "Fetch Node.js, npm and PM2", Run: func() (cached bool, err error) { parts.node, cached, err = p.node(ctx, tools); return cached, err }},
		builders.Task{Name: "Wait for Packer", Run: func() (bool, error) { return packerCompiled.Wait(p.Out) }},
	)
	if err != nil {
		return made{}, err
	}

	parts.inputs, err = p.inputs(digest)
	return parts, err
}

// checkHost finds what would make the build fail late.
func (p *Pipeline) checkHost() error {
	if p.epochFault != nil {
		return p.epochFault
	}
	if err := p.Spec.Validate(); err != nil {
		return err
	}
	if p.Spec.Architecture != toolchain.HostArchitecture() {
		return fmt.Errorf("ARCH=%s cannot be built on this %s host yet: use ARCH=%s", p.Spec.Architecture, toolchain.HostArchitecture(), toolchain.HostArchitecture())
	}

	if _, err := userns.New(); err != nil {
		return err
	}
	if err := os.MkdirAll(p.CacheDir, 0o755); err != nil {
		return fmt.Errorf("make the cache directory: %w", err)
	}

	return nil
}

// checkSpace finds that the disk would be full before the build is over.
func (p *Pipeline) checkSpace() error { return bootstrap.SpaceForBuild(p.CacheDir, p.Source) }

// lock lets one build at a time use the cache. Packer inherits the file: when
// this process is killed and Packer is not, the cache stays locked until Packer
// has ended too.
func (p *Pipeline) lock(ctx context.Context) (*os.File, error) {
	return p.cache(p.Out).Lock(ctx, func() { p.printLine("waiting for another build that uses %s", p.CacheDir) })
}

// bootstrap makes the cache hold the root file system that Packer starts from.
func (p *Pipeline) bootstrap(ctx context.Context, out io.Writer) (cached bool, err error) {
	packages, err := bootstrap.LoadPackageLock(p.Spec.Suite, p.Spec.Architecture, "rootvm")
	if err != nil {
		return false, err
	}
	_, cached, err = p.fetcher(out).Bootstrap(ctx, packages)
	return cached, err
}

// workspaceImage makes the workspace image, unless dist/ has it, and returns the
// workspace's root file system that goes into the Root VM's image, and the
// digest that stands for it.
func (p *Pipeline) workspaceImage(ctx context.Context, cacheLock *os.File) (rootfs, digest string, err error) {
	workspaces := p.Workspaces()
	workspaces.Force = false // what Force makes anew is this image
	m, err := workspaces.BuildLocked(ctx, cacheLock)
	if err != nil {
		return "", "", err
	}
	return workspaces.Rootfs(ctx, m, p.Spec.Architecture)
}

// node installs the npm lock of what the guest has of Node.js.
func (p *Pipeline) node(ctx context.Context, tools *bootstrap.Tools) (dir string, cached bool, err error) {
	modules := bootstrap.NodeModules{
		Cache: p.cache(p.Out), Source: p.Source, Installer: images.NodeLock, Tools: tools, Out: p.Out,
	}
	return modules.Install(ctx, "provision/npm", p.Spec.Architecture)
}
