package main

import (
	"context"

	"github.com/rockpool/rootvm/host"
	"github.com/rockpool/rootvm/images/registry"
)

// artifacts is [host.Artifacts] by the client of registries, which this program
// alone brings to the verbs: what mage compiles is smaller without.
type artifacts struct{}

func (artifacts) Digest(ctx context.Context, from host.Remote) (string, error) {
	return registry.Digest(ctx, remote(from))
}

func (artifacts) Fetch(ctx context.Context, from host.Remote, digest, dir string, accept func() error) error {
	return registry.Pull(ctx, dir, remote(from), digest, accept)
}

func remote(from host.Remote) registry.Remote {
	return registry.Remote{Reference: from.Reference, PlainHTTP: from.PlainHTTP, AuthFile: from.AuthFile, Say: from.Say}
}
