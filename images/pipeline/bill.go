package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/images"
)

// writeBill writes the bill of materials of one platform's image into dist/. The
// builder does, because SPDX's library is much to compile.
func (b *build) writeBill(ctx context.Context, platform, digest string) (builders.Artifact, error) {
	bill, err := b.bill(platform, digest)
	if err != nil {
		return builders.Artifact{}, err
	}
	file := filepath.Join(b.Dist, bill.Name+".spdx.json")
	if err := b.runBill(ctx, bill, file); err != nil {
		return builders.Artifact{}, err
	}
	return builders.Describe(file, "spdx")
}

// WriteBill writes a bill of materials to file.
func (p *Pipeline) WriteBill(ctx context.Context, bill images.Bill, file string) error {
	if err := p.compileBuilder(ctx); err != nil {
		return err
	}
	return p.runBill(ctx, bill, file)
}

// runBill has the builder write a bill to file.
func (p *Pipeline) runBill(ctx context.Context, bill images.Bill, file string) error {
	request, err := json.Marshal(bill)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	cmd := exec.CommandContext(ctx, p.builder(), "bill")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(request), &text, p.Out
	if err := cmd.Run(); err != nil {
		return err
	}
	return builders.WriteFile(file, text.Bytes())
}

// bill lists the Debian packages and the npm packages of the locks that one
// platform's image was made from. Which Debian packages a base that is not ours
// has, no lock tells.
func (b *build) bill(platform, digest string) (images.Bill, error) {
	bill := images.Bill{
		Name:      "rockpool-workspace-" + b.spec.Suite + "-" + images.Architecture(platform),
		Version:   digest,
		Purpose:   "CONTAINER",
		Namespace: images.Source + "/spdx/workspace/" + digest,
		Tool:      "rockpool-" + b.spec.Version,
		Created:   b.spec.Epoch(),
	}

	if b.spec.Base != "" {
		bill.Comment = "The Debian packages are not listed: they are those of " + b.spec.Base + " and what it lacked."
	} else {
		for _, p := range b.packages[platform].Packages() {
			bill.Packages = append(bill.Packages, images.Package{
				URL:  images.DebianURL(p.Name, p.Version, p.Architecture, b.spec.Suite),
				Name: p.Name, Version: p.Version, SHA256: p.SHA256, Supplier: "Debian",
			})
		}
	}

	for _, name := range []string{"node", "vscode"} {
		lock, err := os.ReadFile(filepath.Join(b.Source, "images", "workspace", name, "package-lock.json"))
		if err != nil {
			return images.Bill{}, err
		}
		packages, err := images.BillNPM(lock, platform)
		if err != nil {
			return images.Bill{}, fmt.Errorf("%s: %w", name, err)
		}
		bill.Packages = append(bill.Packages, packages...)
	}

	return bill, nil
}
