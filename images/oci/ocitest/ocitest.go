// Package ocitest writes OCI layouts for tests. Only tests import it.
package ocitest

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
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

func image(t *testing.T, architecture string) v1.Image {
	t.Helper()
	layer, err := random.Layer(1024, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}

	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(base, layer)
	if err != nil {
		t.Fatal(err)
	}

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
