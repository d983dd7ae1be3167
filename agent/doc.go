// Package agent is the domain of the in-VM daemon: its nouns, its error
// codes, and the interfaces that its use cases ask of the outside world.
//
// It owns no state and imports no other package of this module but guest, the
// contract with the host. Every directory below it is one dependency (sqlite,
// podman, systemd, …), one use case (boot, setup, controlplane) or one side of
// the API; siblings import none of each other but api, which is the API on the
// wire, and cmd/rockpool-agent joins them.
package agent
