package buildah

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/pkg/compression"
	istorage "go.podman.io/image/v5/storage"

	"github.com/rockpool/rootvm/images"
)

// export writes the built images, ids by platform, as the OCI layout r.Layout.
// The layout names one image, or one index of the images of all platforms.
func (s *store) export(ctx context.Context, r images.Request, built map[string]string, out *progress) error {
	tmp := r.Layout + ".part"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}

	var manifests []v1.Descriptor
	for _, platform := range r.Spec.Platforms {
		out.printLine("compressing the image for %s", platform)
		if err := s.exportOne(ctx, built[platform], tmp); err != nil {
			return errors.Join(fmt.Errorf("write the layout for %s: %w", platform, err), os.RemoveAll(tmp))
		}
		d, err := readIndex(tmp)
		if err != nil {
			return err
		}
		if len(r.Spec.Platforms) > 1 {
			d = indexed(d, platform)
		}
		manifests = append(manifests, d)
	}

	top := manifests[0]
	if len(manifests) > 1 {
		var err error
		top, err = writeBlob(filepath.Join(tmp, v1.ImageBlobsDir, "sha256"), v1.MediaTypeImageIndex, v1.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: manifests,
		})
		if err != nil {
			return fmt.Errorf("write the layout: %w", err)
		}
	}

	top.Annotations = map[string]string{v1.AnnotationRefName: r.Spec.Reference()}
	if err := writeIndex(tmp, top); err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	return errors.Join(os.RemoveAll(r.Layout), os.Rename(tmp, r.Layout))
}

// indexed is the entry of an image in the index of several platforms, as
// containers/image writes it when it copies the index: a registry's has the same
// digest.
func indexed(d v1.Descriptor, platform string) v1.Descriptor {
	d.Platform = &v1.Platform{OS: "linux", Architecture: images.Architecture(platform)}
	d.Annotations = map[string]string{"io.github.containers.compression.zstd": "true"}
	return d
}

// exportOne adds the image id to the layout dir, whose index then names it
// alone. Layers are compressed with zstd, which engines read since 2020.
func (s *store) exportOne(ctx context.Context, id, dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, v1.ImageIndexFile)); err != nil {
		return err
	}
	from, err := istorage.Transport.NewStoreReference(s.Store, nil, id)
	if err != nil {
		return err
	}
	to, err := layout.NewReference(dir, "")
	if err != nil {
		return err
	}
	system, err := s.system()
	if err != nil {
		return err
	}
	system.CompressionFormat = &compression.Zstd
	system.OCIAcceptUncompressedLayers = false
	return s.copy(ctx, to, from, &copy.Options{DestinationCtx: system, ForceManifestMIMEType: v1.MediaTypeImageManifest})
}

// readIndex returns the one entry of a layout's index.
func readIndex(dir string) (v1.Descriptor, error) {
	b, err := os.ReadFile(filepath.Join(dir, v1.ImageIndexFile))
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("read the layout: %w", err)
	}
	var index v1.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return v1.Descriptor{}, fmt.Errorf("read the layout %s: %w", dir, err)
	}
	if len(index.Manifests) != 1 {
		return v1.Descriptor{}, fmt.Errorf("the layout %s names %d images instead of one: build it again", dir, len(index.Manifests))
	}
	return index.Manifests[0], nil
}
