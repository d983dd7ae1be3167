// Package agent is the domain of the in-VM daemon: its nouns, its error
// codes, and the interfaces that its use cases ask of the outside world.
//
// It owns no state and imports no other package of this module. Every
// directory beside it is one dependency (sqlite, http, systemd, …) or one use
// case (boot, setup); siblings never import each other, and
// cmd/rockpool-agent joins them.
package agent
