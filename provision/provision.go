// Package provision holds what turns a bare Debian root file system into the
// Root VM: the list of packages, the steps that Packer's stock shell and file
// provisioners run in the chroot, and the Node.js lock.
// It is data; it runs nothing and imports nothing of this project.
//
// The template in packer/ runs the steps in the order of their names. What
// changes rarely comes first, so that the cache of layers keeps everything
// before the first change: a new agent or unit repeats only the last two
// steps, which take a second.
package provision

import "embed"

//go:embed packages
var lists embed.FS
