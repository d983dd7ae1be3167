package images

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Bill is the bill of materials of one image, as package spdx writes it. It
// travels to cmd/workspace-image, which does.
type Bill struct {
	Name      string    // of the image
	Version   string    // of the image, such as its digest
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
