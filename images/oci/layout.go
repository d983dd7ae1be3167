// Package oci reads and packs OCI image layouts, the directories of the OCI
// image specification, without privileges, without a container engine and
// without a look into their layers, which is images/rootfs's. It owns no state.
package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
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
		return "", fmt.Errorf("layout %s: %w", l.Dir, err)
	}
	return d.Digest.String(), nil
}

// Image is one image of a layout.
type Image struct {
	Digest string // of its manifest: "sha256:" and hexadecimal
	Config []byte // its configuration, as it is stored
	Layers []Layer
}

// Layer is one layer of an image.
type Layer struct {
	Digest string // of the compressed blob
	Size   int64  // of the compressed blob, bytes
}

// Image returns the image of an architecture. Its manifest and configuration are
// verified, its layers are not read.
func (l Layout) Image(architecture string) (Image, error) {
	img, err := l.image(architecture)
	if err != nil {
		return Image{}, fmt.Errorf("layout %s: %w", l.Dir, err)
	}
	return img, nil
}

func (l Layout) image(architecture string) (Image, error) {
	top, err := l.top()
	if err != nil {
		return Image{}, err
	}
	if isIndex(top) {
		if top, err = l.entry(top, architecture); err != nil {
			return Image{}, err
		}
	}

	var manifest v1.Manifest
	if _, err := l.blob(top, &manifest); err != nil {
		return Image{}, err
	}
	var config v1.Image
	text, err := l.blob(manifest.Config, &config)
	if err != nil {
		return Image{}, err
	}
	if config.Architecture != architecture {
		return Image{}, fmt.Errorf("it is for %s, not for %s", config.Architecture, architecture)
	}

	img := Image{Digest: top.Digest.String(), Config: text}
	for _, d := range manifest.Layers {
		img.Layers = append(img.Layers, Layer{Digest: d.Digest.String(), Size: d.Size})
	}
	return img, nil
}

// isIndex tells whether d is of an index, OCI's or Docker's.
func isIndex(d v1.Descriptor) bool {
	return d.MediaType == v1.MediaTypeImageIndex || d.MediaType == "application/vnd.docker.distribution.manifest.list.v2+json"
}

// top returns the one entry of the layout's index.
func (l Layout) top() (v1.Descriptor, error) {
	b, err := os.ReadFile(filepath.Join(l.Dir, v1.ImageIndexFile))
	if err != nil {
		return v1.Descriptor{}, err
	}
	var index v1.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return v1.Descriptor{}, fmt.Errorf("read %s: %w", v1.ImageIndexFile, err)
	}
	if len(index.Manifests) != 1 {
		return v1.Descriptor{}, fmt.Errorf("it names %d images instead of one: build it again", len(index.Manifests))
	}
	return index.Manifests[0], nil
}

// entry returns that of an architecture in the index d.
func (l Layout) entry(d v1.Descriptor, architecture string) (v1.Descriptor, error) {
	var index v1.Index
	if _, err := l.blob(d, &index); err != nil {
		return v1.Descriptor{}, err
	}
	for _, m := range index.Manifests {
		if m.Platform != nil && m.Platform.Architecture == architecture {
			return m, nil
		}
	}
	return v1.Descriptor{}, fmt.Errorf("it has no image for %s", architecture)
}

// blob reads a blob in JSON into v, verifies and returns it.
func (l Layout) blob(d v1.Descriptor, v any) ([]byte, error) {
	encoded, ok := strings.CutPrefix(d.Digest.String(), "sha256:")
	if !ok || strings.ContainsRune(encoded, filepath.Separator) {
		return nil, fmt.Errorf("digest %q is no SHA-256", d.Digest)
	}
	b, err := os.ReadFile(filepath.Join(l.Dir, v1.ImageBlobsDir, "sha256", encoded))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != encoded {
		return nil, errors.New("the blob " + encoded + " is damaged: build it again")
	}
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("read the blob %s: %w", encoded, err)
	}
	return b, nil
}
