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

	v1 "github.com/google/go-containerregistry/pkg/v1"

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

func writeLayout(t *testing.T, images ...v1.Image) Layout {
	t.Helper()
	return Layout{Dir: ocitest.Write(t, images...)}
}

func TestLayout_Image(t *testing.T) {
	one := writeLayout(t, ocitest.Image(t, "amd64", ocitest.Layer(t, "a")))
	if _, err := one.Image("arm64"); err == nil || !strings.Contains(err.Error(), "for amd64, not for arm64") {
		t.Errorf("another platform's: %v", err)
	}

	both := writeLayout(t, ocitest.Image(t, "amd64", ocitest.Layer(t, "a")), ocitest.Image(t, "arm64", ocitest.Layer(t, "b")))
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
	l := writeLayout(t, ocitest.Image(t, "amd64", ocitest.Layer(t, "a")))
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
	l := writeLayout(t, ocitest.Image(t, "amd64", ocitest.Layer(t, "a")))
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
