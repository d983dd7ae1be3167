package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/toolchain"
)

// dist is a file of the finished image.
func (p *Pipeline) dist(suffix string) string {
	return filepath.Join(p.Dist, p.Spec.Name()+suffix)
}

// Manifest returns the manifest of the image in dist/, if there is a whole one.
func (p *Pipeline) Manifest() (builders.Manifest, bool) {
	m, err := builders.ReadManifest(p.dist(".manifest.json"))
	if err != nil {
		return m, false
	}
	for _, a := range m.Artifacts {
		if st, err := os.Stat(filepath.Join(p.Dist, a.File)); err != nil || st.Size() != a.Size {
			return m, false
		}
	}
	for _, format := range p.Spec.Formats {
		if _, ok := m.Artifact(format); !ok {
			return m, false
		}
	}
	return m, true
}

// Older tells in a sentence that a build would update the image, or nothing: its
// sources or its settings have changed. A commit that changes neither, such as one
// of a document, makes no image older.
func (p *Pipeline) Older(ctx context.Context, m builders.Manifest) string {
	sources, err := p.sourceDigest()
	if err != nil || sources == m.SourceDigest {
		return ""
	}
	if now := p.revision(ctx); now != "" && now != m.Revision {
		return fmt.Sprintf("the image is of revision %s, the checkout of %s: `go tool mage rootvm:build` updates it", m.Revision, now)
	}
	return "the image is not of the checkout's files as they are now, or not of the same settings: `go tool mage rootvm:build` updates it"
}

// origin is what an image is made from, as far as it is known before anything is
// compiled.
type origin struct {
	revision  string // of the checkout
	sources   string // digest of the settings and of the checkout's files
	compilers string // digest of the host's, of its Go and C
}

func (p *Pipeline) origin(ctx context.Context) (o origin, err error) {
	o.revision = p.revision(ctx)
	if o.sources, err = p.sourceDigest(); err != nil {
		return o, err
	}
	o.compilers, err = toolchain.Compilers(ctx, p.Source)
	return o, err
}

// sameOrigin reports whether the image in dist/ is made from o and the workspace
// image is current, which is asked only then: nothing has to be compiled to find
// that there is nothing to do.
func (p *Pipeline) sameOrigin(ctx context.Context, o origin, workspace func(context.Context) (current bool, err error)) (m builders.Manifest, same bool) {
	m, ok := p.Manifest()
	if !ok || p.Force || m.SourceDigest != o.sources || m.CompilerDigest != o.compilers {
		return m, false
	}
	current, err := workspace(ctx)
	return m, err == nil && current
}

// confirm records that an image which a build found to be up to date is that of
// the checkout as it is now.
func (p *Pipeline) confirm(m builders.Manifest, o origin) (builders.Manifest, error) {
	if m.Revision == o.revision && m.SourceDigest == o.sources && m.CompilerDigest == o.compilers {
		return m, nil
	}
	m.Revision, m.SourceDigest, m.CompilerDigest = o.revision, o.sources, o.compilers
	return m, m.Write(p.dist(".manifest.json"))
}

// promote brings the finished files into dist/: the old image is there, or the
// new one, at whatever moment it is cut off.
func (p *Pipeline) promote(out string, before []builders.Step, o origin) (builders.Manifest, error) {
	m, err := builders.ReadManifest(filepath.Join(out, p.Spec.Name()+".manifest.json"))
	if err != nil {
		return m, err
	}
	m.Steps = slices.Concat(before, m.Steps)
	m.SourceDigest, m.CompilerDigest = o.sources, o.compilers
	if err := p.promotion().run(out, m); err != nil {
		return m, fmt.Errorf("put the image into dist: %w", err)
	}
	return m, builders.WriteAllChecksums(p.Dist)
}

func (p *Pipeline) promotion() promotion { return promotion{dist: p.Dist, name: p.Spec.Name()} }

// settle ends a promotion that was cut off, for a caller that holds the lock of
// the cache. The list of checksums follows the manifests.
func (p *Pipeline) settle() error {
	m, err := builders.ReadManifest(p.dist(".manifest.json"))
	if errors.Is(err, os.ErrNotExist) {
		return p.promotion().settle()
	}
	if err != nil {
		return nil // the build that follows replaces it
	}
	if err := p.promotion().settle(); err != nil {
		return fmt.Errorf("put the image into dist: %w", err)
	}
	if unsettled(m) || !p.summed(m) {
		return builders.WriteAllChecksums(p.Dist)
	}
	return nil
}

// summed reports whether SHA256SUMS has the image's files.
func (p *Pipeline) summed(m builders.Manifest) bool {
	sums, err := os.ReadFile(filepath.Join(p.Dist, "SHA256SUMS"))
	return err == nil && !slices.ContainsFunc(m.Artifacts, func(a builders.Artifact) bool {
		return !strings.Contains(string(sums), a.SHA256+"  "+a.File+"\n")
	})
}
