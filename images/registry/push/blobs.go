package push

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// blobsOf are the sizes of the configs and layers of a layout, by their digests.
func blobsOf(dir string) (map[digest.Digest]int64, error) {
	b, err := os.ReadFile(filepath.Join(dir, v1.ImageIndexFile))
	if err != nil {
		return nil, err
	}
	blobs := map[digest.Digest]int64{}
	return blobs, addBlobs(dir, b, blobs)
}

// addBlobs adds those of an index or of an image's manifest.
func addBlobs(dir string, document []byte, blobs map[digest.Digest]int64) error {
	var d struct {
		Manifests []v1.Descriptor
		Config    *v1.Descriptor
		Layers    []v1.Descriptor
	}
	if err := json.Unmarshal(document, &d); err != nil {
		return fmt.Errorf("the layout %s: %w", dir, err)
	}

	if d.Config != nil {
		blobs[d.Config.Digest] = d.Config.Size
	}
	for _, layer := range d.Layers {
		blobs[layer.Digest] = layer.Size
	}
	for _, m := range d.Manifests {
		if err := m.Digest.Validate(); err != nil {
			return fmt.Errorf("the layout %s: %w", dir, err)
		}
		b, err := os.ReadFile(filepath.Join(dir, v1.ImageBlobsDir, m.Digest.Algorithm().String(), m.Digest.Encoded()))
		if err != nil {
			return err
		}
		if err := addBlobs(dir, b, blobs); err != nil {
			return err
		}
	}
	return nil
}
