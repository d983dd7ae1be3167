// Package provision holds what turns a bare Debian root file system into the
// Root VM: the list of packages, the steps that Packer's stock shell and file
// provisioners run in the chroot, and the Node.js lock. It is data; it runs
// nothing and imports nothing of this project.
package provision

import "embed"

// FS holds every file of this directory that a build needs.
//
//go:embed packages
var FS embed.FS
