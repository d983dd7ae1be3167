package pipeline

import (
	"bytes"
	"context"
	"os"
	"path/filepath"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/images"
	"github.com/rockpool/rootvm/provision"
)

// Locks resolves every package lock anew from the archive of today and writes
// it into the checkout, and prints in which way each differs from what it
// replaces.
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
	file := filepath.Join(p.Source, "builders", "bootstrap", "locks", name)
	before := readLock(file)
	if err := builders.WriteFile(file, text.Bytes()); err != nil {
		return err
	}
	return l.WriteChanges(p.Out, before)
}

// readLock reads the lock of before; nil where there is none that can be read,
// which the new one replaces.
func readLock(file string) *bootstrap.PackageLock {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	l, err := bootstrap.ParsePackageLock(f)
	if err != nil {
		return nil
	}
	return l
}
