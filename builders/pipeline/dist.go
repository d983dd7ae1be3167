package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

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

// promote moves the finished files into dist/, the manifest last, so that an
// interruption leaves either the old image or the new one named by a manifest.
func (p *Pipeline) promote(out string, before []builders.Step) (builders.Manifest, error) {
	m, err := builders.ReadManifest(filepath.Join(out, p.Spec.Name()+".manifest.json"))
	if err != nil {
		return m, err
	}
	m.Steps = slices.Concat(before, m.Steps)
	if err := os.MkdirAll(p.Dist, 0o755); err != nil {
		return m, err
	}

	if err := os.Remove(p.dist(".manifest.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return m, err
	}
	for _, a := range m.Artifacts {
		if err := move(filepath.Join(out, a.File), filepath.Join(p.Dist, a.File)); err != nil {
			return m, fmt.Errorf("put %s into dist: %w", a.File, err)
		}
	}
	if err := m.Write(p.dist(".manifest.json")); err != nil {
		return m, err
	}
	return m, builders.WriteAllChecksums(p.Dist)
}

// move renames, or copies where the two lie on different file systems. The
// target is replaced in one step: a VM that runs from the old file keeps it.
func move(from, to string) error {
	if err := os.Rename(from, to); err == nil {
		return nil
	}
	return copyOver(from, to)
}

// copyOver is move between file systems.
func copyOver(from, to string) error {
	f, err := builders.CreateFile(to)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if err := exec.Command("cp", "--sparse=always", from, f.Name()).Run(); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	return os.Remove(from)
}
