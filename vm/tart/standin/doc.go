// Package standin is a program that behaves as Tart does, for tests on hosts
// that are no Macs: run, stop by signals, ip, list and get in JSON, set and
// delete, with the VMs below TART_HOME and a control.sock for each that runs. The
// source of what it imitates is Tart's, openai/tart at 16d186c.
//
// The guest is either a few lines of this package, which speak as a guest does,
// or the VM's disk, really booted by QEMU with the devices that
// Virtualization.framework gives: firmware with an empty variable store, disks
// without serials, a console on virtio, the share under macOS's one tag, and
// vsock, of which this package is the device (vhost-user), since few kernels let
// a process have vhost-vsock. QEMU is that of amd64, whatever config.json says.
//
// It is for tests alone and no part of what is released. It imports guest.
package standin
