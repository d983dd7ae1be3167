package pipeline

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/builders/userns"
	"github.com/rockpool/rootvm/host/preflight"
)

// Image returns the path of the manifest of the image in dist/, which it makes
// when there is none.
func (p *Pipeline) Image(ctx context.Context) (manifest string, err error) {
	if err := p.settleLocked(ctx); err != nil {
		return "", err
	}
	m, ok := p.Manifest()
	if !ok {
		p.printLine("there is no image of %s yet: building it (the first time takes some minutes)", p.Spec.Name())
		_, err = p.Build(ctx)
	} else if note := p.Older(ctx, m); note != "" {
		p.printLine("  %s", note)
	}
	return p.dist(".manifest.json"), err
}

// settleLocked ends a promotion that was cut off after its switch: the files get
// the names by which others may refer to them.
func (p *Pipeline) settleLocked(ctx context.Context) error {
	if m, ok := p.Manifest(); !ok || !unsettled(m) {
		return nil
	}
	cacheLock, err := p.lock(ctx)
	if err != nil {
		return err
	}
	defer cacheLock.Close()
	return p.settle()
}

// Make makes the image into dist/ and lists its files.
func (p *Pipeline) Make(ctx context.Context) error {
	m, err := p.Build(ctx)
	if err != nil {
		return err
	}
	for _, artifact := range m.Artifacts {
		p.printLine("  %-44s %8.1f MB", filepath.Join(filepath.Base(p.Dist), artifact.File), float64(artifact.Size)/1e6)
	}
	return nil
}

// Rockpool compiles the host program for this machine into the cache and
// returns its path.
func (p *Pipeline) Rockpool(ctx context.Context) (string, error) {
	program := filepath.Join(p.CacheDir, "bin", "rockpool")
	return program, toolchain.Build(ctx, p.Source, "./cmd/rockpool", program, toolchain.Plain, p.Out)
}

// MakeRockpool compiles the host program into dist/ for each machine it runs on.
func (p *Pipeline) MakeRockpool(ctx context.Context) error {
	return p.compilePrograms(ctx, p.Dist, toolchain.Plain)
}

// compilePrograms compiles the host program into a directory for each machine it
// runs on.
func (p *Pipeline) compilePrograms(ctx context.Context, dir string, options toolchain.Options) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, target := range toolchain.HostTargets() {
		name := fmt.Sprintf("rockpool-%s-%s", target.OS, target.Architecture)
		if err := toolchain.Build(ctx, p.Source, "./cmd/rockpool", filepath.Join(dir, name), options.For(target), p.Out); err != nil {
			return err
		}
		p.printLine("  %s", filepath.Join(filepath.Base(dir), name))
	}
	return nil
}

// Checks looks at what building needs of this host. It changes nothing.
func (p *Pipeline) Checks(ctx context.Context) []preflight.Check {
	return []preflight.Check{p.checkNamespaces(), p.checkRoom(ctx), p.checkDist()}
}

// checkRoom looks for the space that the next build wants, if there is
// something to build.
func (p *Pipeline) checkRoom(ctx context.Context) preflight.Check {
	const name = "space to build"
	if m, ok := p.Manifest(); ok && p.Older(ctx, m) == "" {
		return preflight.Check{Name: name, Text: "nothing to build"}
	}
	if err := p.checkSpace(); err != nil {
		return preflight.Check{Name: name, Err: err}
	}
	return preflight.Check{Name: name, Text: fmt.Sprintf("there, of %d GiB at most", builders.BuildSpace/builders.GiB)}
}

func (p *Pipeline) checkNamespaces() preflight.Check {
	const name = "building"
	if _, err := userns.New(); err != nil {
		return preflight.Check{Name: name, Err: err}
	}
	if os.Geteuid() == 0 {
		return preflight.Check{Name: name, Text: "as root, in namespaces of its own"}
	}
	return preflight.Check{Name: name, Text: "rootless, with your subordinate ids"}
}

func (p *Pipeline) checkDist() preflight.Check {
	const name = "image"
	m, ok := p.Manifest()
	if !ok {
		return preflight.Check{Name: name, Text: "none yet: `go tool mage up` builds it"}
	}
	return preflight.Check{Name: name, Text: m.Name + " of revision " + m.Revision}
}
