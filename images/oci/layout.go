// Package oci reads and repacks OCI image layouts, the directories of the OCI
// image specification, without privileges and without a container engine. It
// owns no state. It imports images and none of the packages beside it.
package oci

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// Layout is an OCI layout whose index names one image, or one index of the
// images of several platforms, as images/buildah writes it.
type Layout struct {
	Dir string
}

// Digest is that of the image, or of the index, such as a reference pins:
// "sha256:" and hexadecimal.
func (l Layout) Digest() (string, error) {
	d, err := l.top()
	if err != nil {
		return "", err
	}
	return d.Digest.String(), nil
}

// Image is one image of a layout.
type Image struct {
	Digest string // of its manifest: "sha256:" and hexadecimal
	Config []byte // its configuration, as it is stored
	Layers []Layer
	image  v1.Image
}

// Layer is one layer of an image.
type Layer struct {
	Digest string // of the compressed blob
	Size   int64  // of the compressed blob, bytes
}

// Image returns the image of an architecture.
func (l Layout) Image(architecture string) (Image, error) {
	img, err := l.image(architecture)
	if err != nil {
		return Image{}, fmt.Errorf("layout %s: %w", l.Dir, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return Image{}, fmt.Errorf("layout %s: %w", l.Dir, err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return Image{}, fmt.Errorf("layout %s: %w", l.Dir, err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		return Image{}, fmt.Errorf("layout %s: %w", l.Dir, err)
	}
	out := Image{Digest: digest.String(), Config: config, image: img}
	for _, d := range manifest.Layers {
		out.Layers = append(out.Layers, Layer{Digest: d.Digest.String(), Size: d.Size})
	}
	return out, nil
}

// top returns the one entry of the layout's index.
func (l Layout) top() (v1.Descriptor, error) {
	index, err := layout.ImageIndexFromPath(l.Dir)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("layout %s: %w", l.Dir, err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("layout %s: %w", l.Dir, err)
	}
	if len(m.Manifests) != 1 {
		return v1.Descriptor{}, fmt.Errorf("layout %s: it names %d images instead of one: build it again", l.Dir, len(m.Manifests))
	}
	return m.Manifests[0], nil
}

func (l Layout) image(architecture string) (v1.Image, error) {
	top, err := l.top()
	if err != nil {
		return nil, err
	}
	index, err := layout.ImageIndexFromPath(l.Dir)
	if err != nil {
		return nil, err
	}
	digest := top.Digest
	if top.MediaType.IsIndex() {
		if index, err = index.ImageIndex(digest); err != nil {
			return nil, err
		}
		m, err := index.IndexManifest()
		if err != nil {
			return nil, err
		}
		found := false
		for _, d := range m.Manifests {
			if d.Platform != nil && d.Platform.Architecture == architecture {
				digest, found = d.Digest, true
			}
		}
		if !found {
			return nil, fmt.Errorf("it has no image for %s", architecture)
		}
	}
	img, err := index.Image(digest)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if config.Architecture != architecture {
		return nil, fmt.Errorf("it is for %s, not for %s", config.Architecture, architecture)
	}
	return img, nil
}
