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

// confirm records that an image which a build found to be up to date is that of
// the checkout as it is now.
func (p *Pipeline) confirm(m builders.Manifest, revision, sources string) (builders.Manifest, error) {
	if m.Revision == revision && m.SourceDigest == sources {
		return m, nil
	}
	m.Revision, m.SourceDigest = revision, sources
	return m, m.Write(p.dist(".manifest.json"))
}

// promote brings the finished files into dist/: the old image is there, or the
// new one, at whatever moment it is cut off.
func (p *Pipeline) promote(out string, before []builders.Step, sources string) (builders.Manifest, error) {
	m, err := builders.ReadManifest(filepath.Join(out, p.Spec.Name()+".manifest.json"))
	if err != nil {
		return m, err
	}
	m.Steps = slices.Concat(before, m.Steps)
	m.SourceDigest = sources
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
