// Package guest is the contract of the two sides of the Root VM: the host,
// which starts the VM, and the image, which runs in it. It holds what both must
// agree on, once: the configuration disk ([Config]) and the credentials that take
// its place ([CredentialKeys]), what is said over the channel
// ([Message] by the guest, [Call] by the host), the boot's phases ([Phase]), the
// labels and serials of disks, ports, users and paths.
//
// It holds names, types, and the functions that read, fill in and check them. It
// has no effects, owns no state and imports
// nothing of this project, so that the host program, the agent and the image's
// builder can all use it. Shell scripts and templates get these names as
// parameters; where a script of package provision has to repeat one, a test of
// that package compares them.
package guest
