// Package registry copies images to registries. Only programs import it, never
// what mage or the pipelines import: the clients of registries are large. It
// owns no state.
package registry

import (
	"context"
	"errors"
	"fmt"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
)

// Destination is where and how to push.
type Destination struct {
	Reference string // such as registry.example/rockpool/workspace:trixie
	PlainHTTP bool   // the registry has no TLS, or a certificate nobody knows
	AuthFile  string // credentials; empty: where containers-auth.json(5) says
}

// Push copies the OCI layout dir, with all its platforms, to a registry. What
// is there then has the digest of the layout.
func Push(ctx context.Context, dir string, d Destination) error {
	to, err := docker.ParseReference("//" + d.Reference)
	if err != nil {
		return fmt.Errorf("push: %q is no reference to a registry, such as registry.example/name:tag: %w", d.Reference, err)
	}
	from, err := layout.NewReference(dir, "")
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	// Whose image it is was decided when it was built here.
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}

	system := &types.SystemContext{AuthFilePath: d.AuthFile}
	if d.PlainHTTP {
		system.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	_, err = copy.Image(ctx, policy, to, from, &copy.Options{DestinationCtx: system, ImageListSelection: copy.CopyAllImages, PreserveDigests: true})
	if err := errors.Join(err, policy.Destroy()); err != nil {
		return fmt.Errorf("push to %s: %w", d.Reference, err)
	}
	return nil
}
