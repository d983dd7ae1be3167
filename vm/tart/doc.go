// Package tart is the driver that runs an instance by Tart, on Apple's
// Virtualization framework. What `tart` is asked for stands behind one type,
// [Program]; the argument list of `tart run` is built by a pure function.
//
// The instance's root disk is a VM of Tart's own, below its home directory: the
// driver makes it from an image's directory, and makes it again when the image
// changed. The data disk lies in the instance's directory. A VM of the same name
// that the driver did not make is never touched.
//
// Tart forwards no ports to its own Mac and has no virtio-serial port of a name.
// Both go over the VM's control.sock, which leads to a vsock port of the guest
// ([guest.Stream]); where there is none, on macOS 13, ports go over Tart's NAT
// and readiness is seen by the guest's health.
//
// The package imports vm and guest, nothing else of this project, and compiles
// on Linux, where its tests run it on a stand-in for Tart.
package tart
