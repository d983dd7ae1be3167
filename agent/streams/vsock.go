package streams

import (
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/guest"
)

// Listen listens at the vsock port of streams.
func Listen() (net.Listener, error) {
	return vsock.ListenContextID(unix.VMADDR_CID_ANY, guest.StreamPort, nil)
}

// FromHost reports whether a peer on vsock is the host.
func FromHost(peer net.Addr) bool {
	a, ok := peer.(*vsock.Addr)
	return ok && a.ContextID == guest.HostCID
}

// virtioVsock is the number by which the virtio bus names the device
// (include/uapi/linux/virtio_ids.h).
const virtioVsock = "0x0013"

// Present reports whether the machine has a vsock device. root is "/" but in
// tests.
func Present(root string) bool {
	files, _ := filepath.Glob(filepath.Join(root, "sys/bus/virtio/devices/*/device"))
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(b)) == virtioVsock {
			return true
		}
	}
	return false
}
