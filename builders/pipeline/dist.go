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

// Older tells in a sentence that the image is not of the checkout's revision,
// or nothing.
func (p *Pipeline) Older(ctx context.Context, m builders.Manifest) string {
	now := toolchain.Revision(ctx, p.Source)
	if now == "" || now == m.Revision {
		return ""
	}
	return fmt.Sprintf("the image is of revision %s, the checkout of %s: `go tool mage rootvm:build` updates it", m.Revision, now)
}

// promote brings the finished files into dist/: the old image is there, or the
// new one, at whatever moment it is cut off.
func (p *Pipeline) promote(out string, before []builders.Step) (builders.Manifest, error) {
	m, err := builders.ReadManifest(filepath.Join(out, p.Spec.Name()+".manifest.json"))
	if err != nil {
		return m, err
	}
	m.Steps = slices.Concat(before, m.Steps)
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
