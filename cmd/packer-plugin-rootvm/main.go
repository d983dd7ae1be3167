// Command packer-plugin-rootvm is the Packer plugin that builds the Root VM's
// image: the builder "rootvm" and the post-processor "rootvm-qcow2".
package main

import (
	"fmt"
	"os"

	"github.com/hashicorp/packer-plugin-sdk/plugin"
	"github.com/hashicorp/packer-plugin-sdk/version"

	"github.com/rockpool/rootvm/builders/rootvm"
)

func main() {
	set := plugin.NewSet()
	set.RegisterBuilder(plugin.DEFAULT_NAME, new(rootvm.Builder))
	set.RegisterPostProcessor("qcow2", new(rootvm.QCOW2))
	set.SetVersion(version.NewPluginVersion(rootvm.Version, rootvm.Prerelease, ""))
	if err := set.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
