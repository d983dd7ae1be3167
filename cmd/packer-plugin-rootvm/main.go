// Command packer-plugin-rootvm is the Packer plugin that builds the Root VM's
// image: the builder "rootvm" and the post-processors "rootvm-qcow2" and "rootvm-tart".
package main

import (
	"fmt"
	"math"
	"os"

	"github.com/hashicorp/packer-plugin-sdk/plugin"
	"github.com/hashicorp/packer-plugin-sdk/version"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/rootvm"
)

func main() {
	// Packer leaves files open in its plugins. Commands must not inherit them:
	// mmdebstrap hands the number of its next file to a shell, and dash takes
	// one digit only. Kernels before 5.11 answer EINVAL and keep them.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)

	set := plugin.NewSet()
	set.RegisterBuilder(plugin.DEFAULT_NAME, new(rootvm.Builder))
	set.RegisterPostProcessor("qcow2", new(rootvm.QCOW2))
	set.RegisterPostProcessor("tart", new(rootvm.Tart))
	set.SetVersion(version.NewPluginVersion(builders.Version, builders.Prerelease, ""))
	if err := set.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
