package images

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Bill is the bill of materials of one image, as package spdx writes it. It
// travels to cmd/workspace-image, which does.
type Bill struct {
	Name      string    // of the image
	Version   string    // of the image, such as its digest
	Purpose   string    // what the image is, a primary package purpose of SPDX, such as "CONTAINER"
	Namespace string    // an address that is this bill's alone
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

// BillNPM lists what an npm lock installs on a platform, as [NPMPackages] does,
// for a bill.
func BillNPM(lock []byte, platform string) ([]Package, error) {
	packages, err := NPMPackages(lock, platform)
	if err != nil {
		return nil, err
	}
	list := make([]Package, len(packages))
	for i, p := range packages {
		list[i] = Package{URL: NPMURL(p.Name, p.Version), Name: p.Name, Version: p.Version, SHA512: p.SHA512, License: licence(p.License)}
	}
	return list, nil
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

// GoURL is the package URL of a module, of which capitals stay as they are.
func GoURL(path, version string) string { return "pkg:golang/" + path + "@" + url.PathEscape(version) }

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
