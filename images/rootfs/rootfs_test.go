package rootfs

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/rockpool/rootvm/images/oci"
	"github.com/rockpool/rootvm/images/oci/ocitest"
)

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

func writeLayout(t *testing.T, images ...v1.Image) oci.Layout {
	t.Helper()
	return oci.Layout{Dir: ocitest.Write(t, images...)}
}

func TestImage_Write(t *testing.T) {
	img := ocitest.Image(t, "amd64",
		ocitest.Layer(t, "etc/", "etc/gone", "etc/old", "usr/", "usr/a", "usr/a.b", "usr/0=usr/a"),
		ocitest.Layer(t, "usr/", "usr/.wh.a"))

	l := writeLayout(t, img)
	i, err := Open(l, "amd64")
	if err == nil {
		err = i.Write(filepath.Join(t.TempDir(), "f.tar"), "/usr/w")
	}
	if err == nil || !strings.Contains(err.Error(), "which a later layer removes") {
		t.Errorf("a link whose target is gone: %v", err)
	}

	img = ocitest.Image(t, "amd64",
		ocitest.Layer(t, "etc/", "etc/gone", "etc/old", "usr/", "usr/a/", "usr/a.b", "usr/a/x", "usr/0=usr/a.b"),
		ocitest.Layer(t, "etc/", "etc/.wh.gone", "etc/old"))
	l = writeLayout(t, img)
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
		i, err := Open(writeLayout(t, ocitest.Image(t, "amd64", layers...)), "amd64")
		if err != nil {
			t.Fatal(err)
		}
		return i
	}

	first := get(ocitest.Layer(t, "same", "a/", "old"))
	if diff, err := Differences(first, get(ocitest.Layer(t, "same", "a/", "old"))); err != nil || len(diff) > 0 {
		t.Errorf("alike: %v, %v", diff, err)
	}

	diff, err := Differences(first, get(ocitest.Layer(t, "same", "a", "new")))
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
	both := writeLayout(t, ocitest.Image(t, "amd64", ocitest.Layer(t, "a")), ocitest.Image(t, "arm64", ocitest.Layer(t, "b")))
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
