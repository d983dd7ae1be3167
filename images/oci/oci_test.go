package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// layer makes a layer of members; a name with "=" is a hard link, one that ends
// in a slash a directory.
func layer(t *testing.T, members ...string) v1.Layer {
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

func image(t *testing.T, architecture string, layers ...v1.Layer) v1.Image {
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

func write(t *testing.T, images ...v1.Image) Layout {
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
		return Layout{dir}
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
	return Layout{dir}
}

// read returns an archive's members in order, files with their content.
func read(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}

	defer f.Close()
	var out []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(out, " ")
		}
		if err != nil {
			t.Fatal(err)
		}

		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}

		item := h.Name
		if h.Typeflag == tar.TypeLink {
			item += "=" + h.Linkname
		} else if h.Typeflag == tar.TypeReg && !strings.HasSuffix(h.Name, ".json") && !strings.HasSuffix(h.Name, "digest") {
			item += ":" + string(b)
		}
		out = append(out, item)
	}
}

func TestLayout_Image(t *testing.T) {
	one := write(t, image(t, "amd64", layer(t, "a")))
	if _, err := one.Image("arm64"); err == nil || !strings.Contains(err.Error(), "for amd64, not for arm64") {
		t.Errorf("another platform's: %v", err)
	}

	both := write(t, image(t, "amd64", layer(t, "a")), image(t, "arm64", layer(t, "b")))
	arm, err := both.Image("arm64")
	if err != nil {
		t.Fatal(err)
	}

	top, err := both.Digest()
	if err != nil || top == arm.Digest {
		t.Errorf("digest of the index = %s, %v; of an image %s", top, err, arm.Digest)
	}
	if !strings.Contains(string(arm.Config), `"arm64"`) || len(arm.Layers) != 1 || arm.Layers[0].Size == 0 {
		t.Errorf("image = %s %v", arm.Config, arm.Layers)
	}
	if _, err := (Layout{t.TempDir()}).Digest(); err == nil {
		t.Error("an empty directory has a digest")
	}
}

// TestLayout_Archive makes the same bytes twice.
func TestLayout_Archive(t *testing.T) {
	l := write(t, image(t, "amd64", layer(t, "a")))
	var first []byte
	for range 2 {
		file := filepath.Join(t.TempDir(), "a.tar")
		if err := l.Archive(file); err != nil {
			t.Fatal(err)
		}

		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(b, first) {
			t.Error("a second archive differs")
		}

		first = b
		if got := read(t, file); !strings.HasPrefix(got, "blobs/ blobs/sha256/ ") || !strings.Contains(got, "index.json oci-layout") {
			t.Errorf("members: %s", got)
		}
	}
}

// TestLayout_Damaged: a manifest that is not what its digest says is no image.
func TestLayout_Damaged(t *testing.T) {
	l := write(t, image(t, "amd64", layer(t, "a")))
	digest, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(l.Dir, "blobs", strings.Replace(digest, ":", "/", 1))
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(b, ' '), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Image("amd64"); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("error = %v", err)
	}
}
