// Package spdx writes bills of materials as SPDX 2.3 documents in JSON. It owns
// no state and imports none of the packages beside it.
package spdx

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// Document is the bill of materials of one image.
type Document struct {
	Name      string    // of the image
	Version   string    // of the image, such as its digest
	Namespace string    // an address that is this document's alone
	Tool      string    // that makes it, such as "rockpool-0.1.0"
	Created   time.Time // to the second
	Comment   string    // what a reader must know of the list; may be empty
	Packages  []Package // in the order to write them
}

// Package is a part of the image. It has a digest in SHA256 or in SHA512, or
// none.
type Package struct {
	URL      string // a package URL, see [DebianURL] and [NPMURL]
	Name     string
	Version  string
	File     string // its path in the image, where it has one of its own
	License  string // an SPDX expression; empty: not known
	Supplier string // an organization; empty: not known
	SHA256   string // of the package's archive, in hexadecimal
	SHA512   []byte // of the package's archive
}

// DebianURL is the package URL of a binary package.
func DebianURL(name, version, architecture, suite string) string {
	return fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s&distro=%s", url.PathEscape(name), url.PathEscape(version), architecture, suite)
}

// NPMURL is the package URL of a package of the npm registry.
func NPMURL(name, version string) string {
	scope, rest, scoped := strings.Cut(name, "/")
	if !scoped {
		return "pkg:npm/" + url.PathEscape(name) + "@" + url.PathEscape(version)
	}
	return "pkg:npm/" + strings.Replace(url.PathEscape(scope), "@", "%40", 1) + "/" + url.PathEscape(rest) + "@" + url.PathEscape(version)
}

// Write writes the document. The same document gives the same bytes.
func (d Document) Write(w io.Writer) error {
	doc := &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: d.Name, DocumentNamespace: d.Namespace, DocumentComment: d.Comment,
		CreationInfo: &v2_3.CreationInfo{
			Created:  d.Created.UTC().Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: d.Tool}},
		},
	}

	image := &v2_3.Package{
		PackageName: d.Name, PackageSPDXIdentifier: "image", PackageVersion: d.Version,
		PackageDownloadLocation: "NOASSERTION", PrimaryPackagePurpose: "CONTAINER",
	}
	doc.Packages = append(doc.Packages, image)
	doc.Relationships = append(doc.Relationships, relationship("DOCUMENT", common.TypeRelationshipDescribe, "image"))

	for i, p := range d.Packages {
		part := p.spdx(i)
		doc.Packages = append(doc.Packages, part)
		doc.Relationships = append(doc.Relationships, relationship("image", common.TypeRelationshipContains, part.PackageSPDXIdentifier))
	}
	if err := json.Write(doc, w, json.Indent(" "), json.EscapeHTML(false)); err != nil {
		return fmt.Errorf("write bill of materials: %w", err)
	}
	return nil
}

func relationship(a common.ElementID, is string, b common.ElementID) *v2_3.Relationship {
	return &v2_3.Relationship{RefA: common.DocElementID{ElementRefID: a}, Relationship: is, RefB: common.DocElementID{ElementRefID: b}}
}

// notInID is what an SPDX identifier may not have.
var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func (p Package) spdx(i int) *v2_3.Package {
	out := &v2_3.Package{
		PackageName: p.Name, PackageVersion: p.Version, PackageFileName: p.File,
		PackageSPDXIdentifier:   common.ElementID(fmt.Sprintf("%d-%s", i, notInID.ReplaceAllString(p.Name, "-"))),
		PackageDownloadLocation: "NOASSERTION", PackageLicenseDeclared: p.License, PackageLicenseConcluded: "NOASSERTION",
		PackageCopyrightText: "NOASSERTION",
		PackageExternalReferences: []*v2_3.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: p.URL,
		}},
	}

	if p.License == "" {
		out.PackageLicenseDeclared = "NOASSERTION"
	}
	if p.Supplier != "" {
		out.PackageSupplier = &common.Supplier{SupplierType: "Organization", Supplier: p.Supplier}
	}

	switch {
	case p.SHA256 != "":
		out.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: p.SHA256}}
	case p.SHA512 != nil:
		out.PackageChecksums = []common.Checksum{{Algorithm: common.SHA512, Value: hex.EncodeToString(p.SHA512)}}
	}
	return out
}
