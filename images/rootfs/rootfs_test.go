package rootfs

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

	"github.com/rockpool/rootvm/images/oci"
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

func write(t *testing.T, images ...v1.Image) oci.Layout {
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
		return oci.Layout{Dir: dir}
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
	return oci.Layout{Dir: dir}
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

func TestImage_Write(t *testing.T) {
	img := image(t, "amd64",
		layer(t, "etc/", "etc/gone", "etc/old", "usr/", "usr/a", "usr/a.b", "usr/0=usr/a"),
		layer(t, "usr/", "usr/.wh.a"))

	l := write(t, img)
	i, err := Open(l, "amd64")
	if err == nil {
		err = i.Write(filepath.Join(t.TempDir(), "f.tar"), "/usr/w")
	}
	if err == nil || !strings.Contains(err.Error(), "which a later layer removes") {
		t.Errorf("a link whose target is gone: %v", err)
	}

	img = image(t, "amd64",
		layer(t, "etc/", "etc/gone", "etc/old", "usr/", "usr/a/", "usr/a.b", "usr/a/x", "usr/0=usr/a.b"),
		layer(t, "etc/", "etc/.wh.gone", "etc/old"))
	l = write(t, img)
	if i, err = Open(l, "amd64"); err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(t.TempDir(), "f.tar")
	if err := i.Write(file, "/usr/w"); err != nil {
		t.Fatal(err)
	}

	want := "./usr/ ./usr/w/ ./usr/w/config.json ./usr/w/digest " +
		"./usr/w/rootfs/etc/ ./usr/w/rootfs/etc/old:etc/old ./usr/w/rootfs/usr/ ./usr/w/rootfs/usr/a/ ./usr/w/rootfs/usr/a/x:usr/a/x " +
		"./usr/w/rootfs/usr/a.b:usr/a.b ./usr/w/rootfs/usr/0=./usr/w/rootfs/usr/a.b"
	if got := read(t, file); got != want {
		t.Errorf("members:\n%s\nwant:\n%s", got, want)
	}
}

// TestDifferences names the file that is not the same.
func TestDifferences(t *testing.T) {
	get := func(layers ...v1.Layer) Image {
		i, err := Open(write(t, image(t, "amd64", layers...)), "amd64")
		if err != nil {
			t.Fatal(err)
		}
		return i
	}

	first := get(layer(t, "same", "a/", "old"))
	if diff, err := Differences(first, get(layer(t, "same", "a/", "old"))); err != nil || len(diff) > 0 {
		t.Errorf("alike: %v, %v", diff, err)
	}

	diff, err := Differences(first, get(layer(t, "same", "a", "new")))
	if err != nil {
		t.Fatal(err)
	}

	for i, want := range []string{"./a: 5 ", "./new: only in the second", "./old: only in the first", "configuration: "} {
		if i >= len(diff) || !strings.HasPrefix(diff[i], want) {
			t.Errorf("differences lack %q: %v", want, diff)
		}
	}
}

// TestOpen_OfSeveral finds the image in an index of two.
func TestOpen_OfSeveral(t *testing.T) {
	both := write(t, image(t, "amd64", layer(t, "a")), image(t, "arm64", layer(t, "b")))
	img, err := Open(both, "arm64")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "f.tar")
	if err := img.Write(file, "/w"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, file); !strings.Contains(got, "./w/rootfs/b:b") {
		t.Errorf("members: %s", got)
	}
}
