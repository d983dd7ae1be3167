package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

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
	request, err := json.Marshal(bill)
	if err != nil {
		return builders.Artifact{}, err
	}

	var text bytes.Buffer
	cmd := exec.CommandContext(ctx, b.builder(), "bill")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(request), &text, b.Out
	if err := cmd.Run(); err != nil {
		return builders.Artifact{}, err
	}

	file := filepath.Join(b.Dist, bill.Name+".spdx.json")
	if err := builders.WriteFile(file, text.Bytes()); err != nil {
		return builders.Artifact{}, err
	}
	return builders.Describe(file, "spdx")
}

// bill lists the Debian packages and the npm packages of the locks that one
// platform's image was made from. Which Debian packages a base that is not ours
// has, no lock tells.
func (b *build) bill(platform, digest string) (images.Bill, error) {
	bill := images.Bill{
		Name:      "rockpool-workspace-" + b.spec.Suite + "-" + images.Architecture(platform),
		Version:   digest,
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
		packages, err := images.NPMPackages(lock, platform)
		if err != nil {
			return images.Bill{}, fmt.Errorf("%s: %w", name, err)
		}
		for _, p := range packages {
			bill.Packages = append(bill.Packages, images.Package{
				URL: images.NPMURL(p.Name, p.Version), Name: p.Name, Version: p.Version, SHA512: p.SHA512, License: licence(p.License),
			})
		}
	}

	return bill, nil
}

// expression is what an SPDX licence expression looks like; packages also say
// "SEE LICENSE IN …" or nothing of use.
var expression = regexp.MustCompile(`^\(?[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*\)?$`)

func licence(stated string) string {
	if stated == "UNLICENSED" || !expression.MatchString(stated) {
		return ""
	}
	return stated
}
