// Package push copies images to registries, with the library that copies them
// between all kinds of places. It owns no state.
package push

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/signature"

	"github.com/rockpool/rootvm/images/registry"
)

// Push copies the OCI layout dir, with all its platforms, to a registry. What
// is there then has the digest of the layout. Blobs that the registry has are not
// sent again, so that a push which was cut off goes on where it was. A connection
// that breaks, or a registry that is busy, is tried again, up to five times in a
// row without any blob more.
func Push(ctx context.Context, dir string, remote registry.Remote) error {
	to, err := remote.Parse()
	if err != nil {
		return fmt.Errorf("push: %w", err)
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

	p := registry.NewProgress(blobs, remote.Tell)
	err = remote.Retry(ctx, p, "what the registry has", func() error {
		events, stop := p.Follow()
		defer stop()
		_, err := copy.Image(ctx, policy, to, from, &copy.Options{
			DestinationCtx: remote.System(), ImageListSelection: copy.CopyAllImages, PreserveDigests: true,
			Progress: events, ProgressInterval: time.Second / 4,
		})
		return err
	})
	if err := errors.Join(err, policy.Destroy()); err != nil {
		return fmt.Errorf("push to %s: %w", remote.Reference, err)
	}
	return nil
}
