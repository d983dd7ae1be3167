package pipeline

import (
	"bytes"
	"context"
	"path/filepath"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/images"
	"github.com/rockpool/rootvm/provision"
)

// Locks resolves every package lock anew from the archive of today and writes
// it into the checkout. Review the difference like any other change.
func (p *Pipeline) Locks(ctx context.Context) error {
	mirrors := p.Mirrors
	if len(mirrors) == 0 {
		var err error
		if mirrors, err = bootstrap.DefaultMirrors(ctx); err != nil {
			return err
		}
	}

	for _, arch := range builders.Architectures {
		for _, suite := range builders.Suites {
			if err := p.resolve(ctx, bootstrap.ResolveOptions{
				Suite: suite, Architecture: arch, Set: "rootvm",
				Include: provision.Packages(suite, arch), Base: true, Mirrors: mirrors,
			}); err != nil {
				return err
			}
			if err := p.resolve(ctx, bootstrap.ResolveOptions{
				Suite: suite, Architecture: arch, Set: "workspace",
				Include: images.Packages(suite, arch), Base: true, Mirrors: mirrors,
			}); err != nil {
				return err
			}
		}
		if err := p.resolve(ctx, bootstrap.ResolveOptions{
			Suite: "trixie", Architecture: arch, Set: "tools",
			Include: bootstrap.ToolPackages(arch), Mirrors: mirrors,
		}); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pipeline) resolve(ctx context.Context, o bootstrap.ResolveOptions) error {
	l, err := bootstrap.Resolve(ctx, o)
	if err != nil {
		return err
	}
	name := bootstrap.PackageLockName(o.Suite, o.Architecture, o.Set)
	var text bytes.Buffer
	if _, err := l.WriteTo(&text); err != nil {
		return err
	}
	if err := builders.WriteFile(filepath.Join(p.Source, "builders", "bootstrap", "locks", name), text.Bytes()); err != nil {
		return err
	}
	p.printLine("%s: %d packages", name, len(l.Packages()))
	return nil
}
