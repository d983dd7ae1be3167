// Package registry is what this project does with registries: it fetches an
// artifact into an OCI layout. Pushing one is images/registry/push, which takes
// far larger libraries; what both need is here. Only programs import it, never
// what mage or the pipelines import. It owns no state.
package registry

import (
	"fmt"
	"time"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/types"
)

// Remote is a place in a registry, and how to get there.
type Remote struct {
	Reference string // such as registry.example/rockpool/workspace:trixie
	PlainHTTP bool   // the registry has no TLS, or a certificate nobody knows
	AuthFile  string // credentials; empty: where containers-auth.json(5) says

	Say   func(line string) // told the progress and what is tried again; nil: no one
	Delay time.Duration     // before the second try, doubled for each further one; 0: a second
}

// Parse is the reference as the client of registries takes it.
func (r Remote) Parse() (types.ImageReference, error) {
	ref, err := docker.ParseReference("//" + r.Reference)
	if err != nil {
		return nil, fmt.Errorf("%q is no reference to a registry, such as registry.example/name:tag: %w", r.Reference, err)
	}
	return ref, nil
}

// System is how the client of registries gets there.
func (r Remote) System() *types.SystemContext {
	system := &types.SystemContext{AuthFilePath: r.AuthFile}
	if r.PlainHTTP {
		system.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	return system
}

// Tell says a line to whoever listens.
func (r Remote) Tell(line string) {
	if r.Say != nil {
		r.Say(line)
	}
}
