// Package ocitest writes OCI layouts for tests. Only tests import it.
package ocitest

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Layout writes a layout of one small image for each architecture, under an
// index when there are several, and returns its directory.
func Layout(t *testing.T, architectures ...string) string {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if len(architectures) == 1 {
		if err := path.AppendImage(image(t, architectures[0])); err != nil {
			t.Fatal(err)
		}
		return dir
	}

	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, a := range architectures {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image(t, a), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: a}},
		})
	}
	if err := path.AppendIndex(index); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Random makes an image of so many layers, each of so many random bytes.
func Random(t *testing.T, count int, size int64) v1.Image {
	t.Helper()
	var layers []v1.Layer
	for range count {
		layer, err := random.Layer(size, types.OCILayer)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, layer)
	}

	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(base, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func image(t *testing.T, architecture string) v1.Image {
	t.Helper()
	img := Random(t, 1, 1024)
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}

	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// Layer makes a layer of members; a name with "=" is a hard link, one that ends
// in a slash a directory.
func Layer(t *testing.T, members ...string) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		name, target, link := strings.Cut(m, "=")
		h := &tar.Header{Name: name, Mode: 0o755, Uid: 8, ModTime: time.Unix(5, 7), Typeflag: tar.TypeReg, Size: int64(len(m))}
		switch {
		case link:
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, target, 0
		case strings.HasSuffix(m, "/"):
			h.Typeflag, h.Size = tar.TypeDir, 0
		}

		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, m); err != nil {
				t.Fatal(err)
			}
		}
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Image makes an image of layers.
func Image(t *testing.T, architecture string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = architecture, "linux"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// Write writes a layout of images, under an index when there are several, and
// returns its directory.
func Write(t *testing.T, images ...v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if len(images) == 1 {
		if err := path.AppendImage(images[0]); err != nil {
			t.Fatal(err)
		}
		return dir
	}

	var index v1.ImageIndex = empty.Index
	for _, img := range images {
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: config.Architecture}}})
	}

	if err := path.AppendIndex(index); err != nil {
		t.Fatal(err)
	}
	return dir
}
