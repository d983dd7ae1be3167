// Package spdx writes bills of materials as SPDX 2.3 documents in JSON. It owns
// no state. It is apart because its library is much to compile, so that only
// programs import it.
package spdx

import (
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/rockpool/rootvm/images"
)

// Write writes a bill. The same bill gives the same bytes.
func Write(w io.Writer, bill images.Bill) error {
	doc := &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: bill.Name, DocumentNamespace: bill.Namespace, DocumentComment: bill.Comment,
		CreationInfo: &v2_3.CreationInfo{
			Created:  bill.Created.UTC().Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: bill.Tool}},
		},
	}

	image := &v2_3.Package{
		PackageName: bill.Name, PackageSPDXIdentifier: "image", PackageVersion: bill.Version,
		PackageDownloadLocation: "NOASSERTION", PrimaryPackagePurpose: bill.Purpose,
	}
	doc.Packages = append(doc.Packages, image)
	doc.Relationships = append(doc.Relationships, relationship("DOCUMENT", common.TypeRelationshipDescribe, "image"))

	for i, p := range bill.Packages {
		part := newPackage(i, p)
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

// newPackage describes the package that is number i of a bill.
func newPackage(i int, p images.Package) *v2_3.Package {
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
