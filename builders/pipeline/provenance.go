package pipeline

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/provenance"
	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/images"
)

// npmLocks are the directories of the checkout with npm's locks of what an image
// has.
var npmLocks = []string{"provision/npm", images.NodeLock, "images/workspace/vscode"}

// addProvenance puts the statement on the finished image in the directory out
// beside it, and into its manifest.
func (p *Pipeline) addProvenance(ctx context.Context, out string, parts made, from origin) error {
	path := filepath.Join(out, p.Spec.Name()+".manifest.json")
	m, err := builders.ReadManifest(path)
	if err != nil {
		return err
	}
	dependencies, err := p.dependencies(m, parts, from)
	if err != nil {
		return fmt.Errorf("provenance: %w", err)
	}
	commit, differing := toolchain.LastCommit(ctx, p.Source, commitPaths()...)
	content, err := provenance.New(m, provenance.Build{
		Source: images.Source, Commit: commit, Changed: differing != "",
		Version: p.WorkspaceImage.Version, Spec: p.Spec, Dependencies: dependencies,
	})
	if err != nil {
		return err
	}

	file := filepath.Join(out, m.Name+provenance.Suffix)
	if err := builders.WriteFile(file, content); err != nil {
		return err
	}
	artifact, err := builders.Describe(file, provenance.Format)
	if err != nil {
		return err
	}
	m.SetArtifacts(artifact)
	return m.Write(path)
}

// dependencies name by their digests what the image was made from.
func (p *Pipeline) dependencies(m builders.Manifest, parts made, from origin) ([]provenance.Dependency, error) {
	all := []provenance.Dependency{
		{Name: provenance.Inputs, SHA256: m.InputDigest},
		{Name: "sources and settings", SHA256: from.sources},
		{Name: "compilers of the host", SHA256: from.compilers},
		{Name: provenance.PackageLock, SHA256: m.LockDigest},
		{Name: "workspace image", SHA256: strings.TrimPrefix(parts.workspaceDigest, "sha256:")},
	}
	for _, lock := range []struct{ suite, arch, set string }{
		{p.Spec.Suite, p.Spec.Architecture, "workspace"}, {bootstrap.ToolsSuite, toolchain.HostArchitecture(), "tools"},
	} {
		l, err := bootstrap.LoadPackageLock(lock.suite, lock.arch, lock.set)
		if err != nil {
			return nil, err
		}
		all = append(all, provenance.Dependency{Name: "package lock of " + lock.set, SHA256: l.Digest()})
	}
	for _, dir := range npmLocks {
		a, err := builders.Describe(filepath.Join(p.Source, dir, "package-lock.json"), "")
		if err != nil {
			return nil, err
		}
		all = append(all, provenance.Dependency{Name: "npm lock of " + dir, SHA256: a.SHA256})
	}
	for _, file := range []string{"go.mod", "go.sum", "provision/queue/go.sum"} {
		a, err := builders.Describe(filepath.Join(p.Source, file), "")
		if err != nil {
			return nil, err
		}
		all = append(all, provenance.Dependency{Name: file, SHA256: a.SHA256})
	}
	return all, nil
}
