package buildah

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/common/libimage"
	"go.podman.io/common/pkg/config"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/signature"
	istorage "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage"

	"github.com/rockpool/rootvm/images"
)

// base returns the image to start from, which the storage has then, and its
// digest.
func (s *store) base(ctx context.Context, r images.Request, platform string, out *progress) (reference, digest string, err error) {
	if r.Spec.Base != "" {
		return s.pull(ctx, r, platform, out)
	}
	base, ok := r.Bases[platform]
	if !ok {
		return "", "", errors.New("the request has no root file system for it")
	}

	reference = fmt.Sprintf("%s%.12s", baseName(r.Spec, platform), base.SHA256)
	if img, err := s.Image(reference); err == nil {
		out.used[img.ID] = true
		return reference, img.Digest.String(), nil
	} else if !errors.Is(err, storage.ErrImageUnknown) {
		return "", "", err
	}

	out.printLine("importing the base of %s for %s", r.Spec.Suite, platform)
	dir := filepath.Join(s.run, "base")
	if err := writeBase(dir, base, images.Architecture(platform)); err != nil {
		return "", "", err
	}

	from, err := layout.NewReference(dir, "")
	if err != nil {
		return "", "", err
	}
	to, err := istorage.Transport.ParseStoreReference(s.Store, reference)
	if err != nil {
		return "", "", err
	}
	if err := s.copy(ctx, to, from, &copy.Options{}); err != nil {
		return "", "", fmt.Errorf("import %s: %w: delete that file if it is damaged", base.Archive, err)
	}

	img, err := s.Image(reference)
	if err != nil {
		return "", "", err
	}
	return reference, img.Digest.String(), os.RemoveAll(dir)
}

// pull brings the base that the user named into the storage, unless it is
// there as the registry has it now, or cannot be asked. It returns its id, which
// a tag that moves does not change.
func (s *store) pull(ctx context.Context, r images.Request, platform string, out *progress) (id, digest string, err error) {
	system, err := s.system()
	if err != nil {
		return "", "", err
	}
	if r.PlainHTTP {
		system.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}

	rt, err := libimage.RuntimeFromStore(s.Store, &libimage.RuntimeOptions{SystemContext: system})
	if err != nil {
		return "", "", err
	}

	options := &libimage.PullOptions{CopyOptions: libimage.CopyOptions{
		OS: "linux", Architecture: images.Architecture(platform), SignaturePolicyPath: system.SignaturePolicyPath, Writer: out,
	}}
	pulled, err := rt.Pull(ctx, r.Spec.Base, config.PullPolicyNewer, options)
	if err != nil {
		return "", "", fmt.Errorf("pull: %w", err)
	}

	// The library takes an image of one platform for any, and warns.
	info, err := pulled[0].Inspect(ctx, nil)
	if err != nil {
		return "", "", fmt.Errorf("inspect %s: %w", r.Spec.Base, err)
	}
	if is := info.Os + "/" + info.Architecture; is != platform {
		return "", "", fmt.Errorf("BASE %s is for %s, not %s: give one that has it", r.Spec.Base, is, platform)
	}
	id = pulled[0].ID()
	if err := s.AddNames(id, []string{fmt.Sprintf("%s%.12s", baseName(r.Spec, platform), id)}); err != nil { // for prune
		return "", "", fmt.Errorf("name the base %s: %w", r.Spec.Base, err)
	}
	out.used[id] = true
	return id, pulled[0].Digest().String(), nil
}

// copy copies an image. Whether to trust it is the business of who named it.
func (s *store) copy(ctx context.Context, to, from types.ImageReference, o *copy.Options) error {
	system, err := s.system()
	if err != nil {
		return err
	}
	if o.SourceCtx == nil {
		o.SourceCtx = system
	}
	if o.DestinationCtx == nil {
		o.DestinationCtx = system
	}
	return copyImage(ctx, to, from, o)
}

func copyImage(ctx context.Context, to, from types.ImageReference, o *copy.Options) error {
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	if err != nil {
		return err
	}
	_, err = copy.Image(ctx, policy, to, from, o)
	return errors.Join(err, policy.Destroy())
}

// writeBase makes an OCI layout in dir of one image, whose one layer is the
// root file system's archive as it is.
func writeBase(dir string, base images.Base, architecture string) error {
	blobs := filepath.Join(dir, v1.ImageBlobsDir, "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	info, err := os.Stat(base.Archive)
	if err != nil {
		return err
	}

	layer := v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: digest.NewDigestFromEncoded(digest.SHA256, base.SHA256), Size: info.Size()}
	if err := os.Symlink(base.Archive, filepath.Join(blobs, base.SHA256)); err != nil {
		return err
	}
	created := time.Unix(base.Created, 0).UTC()
	config, err := writeBlob(blobs, v1.MediaTypeImageConfig, v1.Image{
		Created:  &created,
		Platform: v1.Platform{OS: "linux", Architecture: architecture},
		Config:   v1.ImageConfig{Cmd: []string{"/bin/bash"}},
		RootFS:   v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}},
		History:  []v1.History{{Created: &created, CreatedBy: "Debian packages by their lock"}},
	})
	if err != nil {
		return err
	}

	manifest, err := writeBlob(blobs, v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: config, Layers: []v1.Descriptor{layer},
	})
	if err != nil {
		return err
	}
	return writeIndex(dir, manifest)
}

// writeBlob writes v as JSON into the directory of blobs.
func writeBlob(blobs, mediaType string, v any) (v1.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	return d, os.WriteFile(filepath.Join(blobs, d.Digest.Encoded()), b, 0o644)
}

// writeIndex makes dir the OCI layout of what manifest describes.
func writeIndex(dir string, manifest v1.Descriptor) error {
	index, err := json.Marshal(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{manifest},
	})
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, v1.ImageLayoutFile), []byte(`{"imageLayoutVersion":"`+v1.ImageLayoutVersion+`"}`), 0o644),
		os.WriteFile(filepath.Join(dir, v1.ImageIndexFile), index, 0o644),
	)
}
