package pipeline

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/images"
	"github.com/rockpool/rootvm/images/spdx"
)

// sbom writes the bill of materials of one platform's image into dist/: the
// Debian packages and the npm packages of the locks it was made from. Which
// Debian packages a base that is not ours has, no lock tells.
func (b *build) sbom(platform, digest string) (builders.Artifact, error) {
	doc := spdx.Document{
		Name:      "rockpool-workspace-" + b.spec.Suite + "-" + images.Architecture(platform),
		Version:   digest,
		Namespace: images.Source + "/spdx/workspace/" + digest,
		Tool:      "rockpool-" + b.spec.Version,
		Created:   b.spec.Epoch(),
	}

	if b.spec.Base != "" {
		doc.Comment = "The Debian packages are not listed: they are those of " + b.spec.Base + " and what it lacked."
	} else {
		for _, p := range b.packages[platform].Packages() {
			doc.Packages = append(doc.Packages, spdx.Package{
				URL:  spdx.DebianURL(p.Name, p.Version, p.Architecture, b.spec.Suite),
				Name: p.Name, Version: p.Version, SHA256: p.SHA256, Supplier: "Debian",
			})
		}
	}

	for _, name := range []string{"node", "vscode"} {
		lock, err := os.ReadFile(filepath.Join(b.Source, "images", "workspace", name, "package-lock.json"))
		if err != nil {
			return builders.Artifact{}, err
		}
		packages, err := images.NPMPackages(lock, platform)
		if err != nil {
			return builders.Artifact{}, fmt.Errorf("%s: %w", name, err)
		}
		for _, p := range packages {
			doc.Packages = append(doc.Packages, spdx.Package{
				URL: spdx.NPMURL(p.Name, p.Version), Name: p.Name, Version: p.Version, SHA512: p.SHA512, License: licence(p.License),
			})
		}
	}

	file := filepath.Join(b.Dist, doc.Name+".spdx.json")
	var text bytes.Buffer
	if err := doc.Write(&text); err != nil {
		return builders.Artifact{}, err
	}
	if err := builders.WriteFile(file, text.Bytes()); err != nil {
		return builders.Artifact{}, err
	}
	return builders.Describe(file, "spdx")
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
