package tart

import (
	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

// RunOptions are what `tart run` is told.
type RunOptions struct {
	VM            string // Tart's name of it
	Serial        string // path of the pseudo-terminal of hvc0
	DataDisk      string // absolute path; empty for none
	ConfigDisk    string // absolute path
	ShareDir      string // absolute path; empty for none
	Share         string // vm.ShareAutomount or vm.ShareDirect
	Softnet       bool   // softnet in the place of the NAT
	SoftnetExpose string // such as 8080:8080,2222:22: ports that softnet opens to the LAN
}

// Args is the argument list of Tart, without the program.
func (o RunOptions) Args() []string {
	a := []string{"run", o.VM, "--no-graphics", "--no-audio", "--serial-path=" + o.Serial}
	if o.DataDisk != "" {
		// Without a mode of caching a disk is "automatic", by which Apple's
		// framework is known to corrupt ext4 (openai/tart#675).
		a = append(a, "--disk="+o.DataDisk+":caching=cached")
	}
	a = append(a, "--disk="+o.ConfigDisk+":ro")

	if o.ShareDir != "" {
		share := "--dir=" + guest.ShareTag + ":" + o.ShareDir
		if o.Share == vm.ShareDirect {
			share = "--dir=" + o.ShareDir + ":tag=" + guest.ShareTag
		}
		a = append(a, share)
	}

	if o.Softnet {
		a = append(a, "--net-softnet")
		if o.SoftnetExpose != "" {
			a = append(a, "--net-softnet-allow=0.0.0.0/0", "--net-softnet-expose="+o.SoftnetExpose)
		}
	}
	return a
}
