// Package provision holds what turns a bare Debian root file system into the
// Root VM: the list of packages, the steps that Packer's stock shell and file
// provisioners run in the chroot, and the Node.js lock. It is data; it runs
// nothing and imports nothing of this project.
//
// The steps run in the order of [Steps]. What changes rarely comes first, so
// that a cache of layers keeps everything before the first change: a new agent
// or unit repeats only the last two steps, which take a second.
package provision

import "embed"

// FS holds every file of this directory that a build needs.
//
//go:embed packages steps all:files npm
var FS embed.FS

// StagingDir is where uploads go in the guest. The steps move them on and the
// seal removes it.
const StagingDir = "/var/tmp/rockpool"

// Source says where the bytes of an upload come from.
type Source string

// The sources. Paths of files of this directory are sources too.
const (
	SourceSystem Source = "files/system" // this directory, checked in
	SourceNode   Source = "node_modules" // what "npm ci" made of npm/, see [NPM]
	SourceQueue  Source = "rockpool-queue"
	SourceAgent  Source = "rockpool-agent"
	SourceTree   Source = "tree" // what templates.Write made
)

// Upload is one use of Packer's file provisioner. Directories are uploaded
// with their content below Destination.
type Upload struct {
	Source      Source
	Destination string // absolute, in the guest
}

// Step is one named part of provisioning: its uploads, then its script, run
// by root in the chroot with Args.
type Step struct {
	Name    string
	Uploads []Upload
	Script  string // path in FS
	Args    []string
}

// Target is what the steps need to know about the image.
type Target struct {
	Suite    string // Debian suite
	Arch     string // Debian architecture
	RootUUID string // of the root file system
}

// Steps returns the steps that make the image of a target.
func Steps(t Target) []Step {
	at := func(s Source, name string) Upload {
		return Upload{Source: s, Destination: StagingDir + "/" + name}
	}
	system, node := at(SourceSystem, "system"), at(SourceNode, "node_modules")
	queue := at(SourceQueue, "rockpool-queue")
	agent, tree := at(SourceAgent, "rockpool-agent"), at(SourceTree, "tree")
	return []Step{
		{
			Name:    "system",
			Uploads: []Upload{system},
			Script:  "steps/10-system.sh",
			Args:    []string{system.Destination, t.Suite, t.RootUUID},
		},
		{Name: "services", Script: "steps/20-services.sh"},
		{
			Name:    "node",
			Uploads: []Upload{node},
			Script:  "steps/30-node.sh",
			Args:    []string{node.Destination, t.Arch},
		},
		{
			Name:    "queue",
			Uploads: []Upload{queue},
			Script:  "steps/40-queue.sh",
			Args:    []string{queue.Destination},
		},
		{
			Name:    "rockpool",
			Uploads: []Upload{agent, tree},
			Script:  "steps/50-rockpool.sh",
			Args:    []string{agent.Destination, tree.Destination},
		},
		{Name: "seal", Script: "steps/90-seal.sh"},
	}
}

// NPM returns npm's arguments for making node_modules of npm/package.json and
// its lock, without running any package's scripts. With npm before 10, which
// knows neither --cpu nor --os, it installs for the machine it runs on.
func NPM(arch string) []string {
	cpu := "x64"
	if arch == "arm64" {
		cpu = "arm64"
	}
	return []string{"ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--os=linux", "--cpu=" + cpu}
}

// QueuePackage is the program of the module in queue/ that becomes
// rockpool-queue.
const QueuePackage = "github.com/Admiral-Piett/goaws/app/cmd"
