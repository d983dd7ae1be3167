// Package registry copies images to registries. Only programs import it, never
// what mage or the pipelines import: the clients of registries are large. It
// owns no state.
package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

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

	Say   func(line string) // told the progress and what is tried again; nil: no one
	Delay time.Duration     // before the second try, doubled for each further one; 0: a second
}

// Push copies the OCI layout dir, with all its platforms, to a registry. What
// is there then has the digest of the layout. Blobs that the registry has are not
// sent again, so that a push which was cut off goes on where it was. A connection
// that breaks, or a registry that is busy, is tried again, up to five times in a
// row without any blob more.
func Push(ctx context.Context, dir string, d Destination) error {
	to, err := docker.ParseReference("//" + d.Reference)
	if err != nil {
		return fmt.Errorf("push: %q is no reference to a registry, such as registry.example/name:tag: %w", d.Reference, err)
	}
	from, err := layout.NewReference(dir, "")
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	blobs, err := blobsOf(dir)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	// Whose image it is was decided when it was built here.
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}

	if d.Say == nil {
		d.Say = func(string) {}
	}
	system := &types.SystemContext{AuthFilePath: d.AuthFile}
	if d.PlainHTTP {
		system.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	p := newProgress(blobs, d.Say)
	err = d.retry(ctx, p, func() error {
		events, stop := p.follow()
		defer stop()
		_, err := copy.Image(ctx, policy, to, from, &copy.Options{
			DestinationCtx: system, ImageListSelection: copy.CopyAllImages, PreserveDigests: true,
			Progress: events, ProgressInterval: time.Second / 4,
		})
		return err
	})
	if err := errors.Join(err, policy.Destroy()); err != nil {
		return fmt.Errorf("push to %s: %w", d.Reference, err)
	}
	return nil
}
