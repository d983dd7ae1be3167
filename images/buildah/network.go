package buildah

import nettypes "go.podman.io/common/libnetwork/types"

// hostNetwork is what Buildah is given in place of a network backend, of which
// it demands one to be installed: RUN shares the host's network, so nothing is
// ever set up. The methods of the embedded nil are never called.
type hostNetwork struct{ nettypes.ContainerNetwork }

// DefaultNetworkName implements nettypes.ContainerNetwork.
func (hostNetwork) DefaultNetworkName() string { return "host" }
