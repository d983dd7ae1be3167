package pipeline

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/images"
)

// addBill puts the bill of materials of the finished image in the directory out
// beside it, and into its manifest.
func (p *Pipeline) addBill(ctx context.Context, out, workspaceDigest string) error {
	path := filepath.Join(out, p.Spec.Name()+".manifest.json")
	m, err := builders.ReadManifest(path)
	if err != nil {
		return err
	}
	bill, err := p.bill(m, workspaceDigest)
	if err != nil {
		return err
	}
	file := filepath.Join(out, m.Name+".spdx.json")
	if err := p.Workspaces().WriteBill(ctx, bill, file); err != nil {
		return err
	}

	artifact, err := builders.Describe(file, "spdx")
	if err != nil {
		return err
	}
	m.Artifacts = append(m.Artifacts, artifact)
	m.SortArtifacts()
	return m.Write(path)
}

// bill lists what is in the image: the Debian packages of its lock, npm's of
// provision/npm, the Go modules that the staged programs say they are made of,
// and the workspace image, which has a bill of its own.
func (p *Pipeline) bill(m builders.Manifest, workspaceDigest string) (images.Bill, error) {
	disk, ok := m.Artifact("qcow2")
	if !ok {
		disk, ok = m.Artifact("raw")
	}
	if !ok {
		return images.Bill{}, fmt.Errorf("%s has no disk", m.Name)
	}

	bill := images.Bill{
		Name:      m.Name,
		Version:   "sha256:" + disk.SHA256,
		Purpose:   "OPERATING-SYSTEM",
		Namespace: images.Source + "/spdx/rootvm/sha256:" + disk.SHA256,
		Tool:      "rockpool-" + p.WorkspaceImage.Version,
		Created:   p.Spec.Epoch(),
	}
	for _, debian := range m.Packages {
		bill.Packages = append(bill.Packages, images.Package{
			URL:  images.DebianURL(debian.Name, debian.Version, debian.Architecture, m.Suite),
			Name: debian.Name, Version: debian.Version, SHA256: debian.SHA256, Supplier: "Debian",
		})
	}

	lock, err := os.ReadFile(filepath.Join(p.Source, "provision", "npm", "package-lock.json"))
	if err != nil {
		return bill, err
	}
	npm, err := images.BillNPM(lock, "linux/"+m.Architecture)
	if err != nil {
		return bill, fmt.Errorf("provision/npm: %w", err)
	}
	bill.Packages = append(bill.Packages, npm...)

	for _, program := range []string{"rockpool-agent", "rockpool-queue"} {
		modules, err := goModules(filepath.Join(p.stage(), program), "/usr/local/bin/"+program)
		if err != nil {
			return bill, err
		}
		bill.Packages = append(bill.Packages, modules...)
	}

	bill.Packages = append(bill.Packages, images.Package{
		URL:  "pkg:oci/rockpool-workspace@" + workspaceDigest + "?arch=" + m.Architecture,
		Name: "rockpool-workspace", Version: workspaceDigest,
	})
	return bill, nil
}

// goModules lists the modules that a program is compiled from, as the compiler
// wrote into it. place is where the image has the program.
func goModules(program, place string) ([]images.Package, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("read what %s is compiled from: %w", filepath.Base(program), err)
	}
	list := []images.Package{{
		URL: "pkg:golang/std@" + info.GoVersion, Name: "Go's standard library", Version: info.GoVersion, File: place, License: "BSD-3-Clause",
	}}
	for _, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		list = append(list, images.Package{URL: images.GoURL(module.Path, module.Version), Name: module.Path, Version: module.Version, File: place})
	}
	return list, nil
}
