package tart

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders/tart/tartcheck"
)

// The manifest as it is on the wire, for tests that damage it.
type (
	wireManifest struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Config        wireDescriptor    `json:"config"`
		Layers        []wireDescriptor  `json:"layers"`
		Annotations   map[string]string `json:"annotations"`
	}
	wireDescriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int64             `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	wireIndex struct {
		SchemaVersion int              `json:"schemaVersion"`
		MediaType     string           `json:"mediaType"`
		Manifests     []wireDescriptor `json:"manifests"`
	}
)

func unmarshal(t testing.TB, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func blobFile(dir, digest string) string {
	return filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
}

// putBlob adds a blob to a layout.
func putBlob(t testing.TB, dir string, b []byte, d *wireDescriptor) {
	t.Helper()
	sum := sha256.Sum256(b)
	d.Digest, d.Size = "sha256:"+hex.EncodeToString(sum[:]), int64(len(b))
	if err := os.WriteFile(blobFile(dir, d.Digest), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func readManifest(t testing.TB, dir string) (m wireManifest) {
	t.Helper()
	var index wireIndex
	unmarshal(t, read(t, dir, "index.json"), &index)
	unmarshal(t, read(t, blobFile(dir, index.Manifests[0].Digest)), &m)
	return m
}

// writeManifest makes m the layout's manifest.
func writeManifest(t testing.TB, dir string, m wireManifest) {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	index := wireIndex{SchemaVersion: 2, Manifests: []wireDescriptor{{MediaType: "application/vnd.oci.image.manifest.v1+json"}}}
	putBlob(t, dir, b, &index.Manifests[0])
	if b, err = json.Marshal(index); err == nil {
		err = os.WriteFile(filepath.Join(dir, "index.json"), b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCheck_Faults damages an artifact in every way that must be named. Layers
// are: 0 config.json, 1 to 7 the disk, of which 2, 3 and 6 are one blob, 8 nvram.
func TestCheck_Faults(t *testing.T) {
	disk := severalChunks(t, true)
	replace := func(i int, b []byte) func(*testing.T, string, *wireManifest) {
		return func(t *testing.T, dir string, m *wireManifest) { putBlob(t, dir, b, &m.Layers[i]) }
	}
	config := func(old, changed string) func(*testing.T, string, *wireManifest) {
		return func(t *testing.T, dir string, m *wireManifest) {
			b := read(t, blobFile(dir, m.Layers[0].Digest))
			putBlob(t, dir, bytes.Replace(b, []byte(old), []byte(changed), 1), &m.Layers[0])
		}
	}
	stream := func(change func([]byte) []byte) func(*testing.T, string, *wireManifest) {
		return func(t *testing.T, dir string, m *wireManifest) {
			putBlob(t, dir, change(read(t, blobFile(dir, m.Layers[1].Digest))), &m.Layers[1])
		}
	}

	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string, m *wireManifest)
		want   error
		says   string
	}{
		"a bit of a chunk": {func(t *testing.T, dir string, m *wireManifest) {
			file := blobFile(dir, m.Layers[4].Digest)
			b := read(t, file)
			b[len(b)/2] ^= 1
			_ = os.WriteFile(file, b, 0o644)
		}, tartcheck.ErrDigest, "the blob of layer 4"},
		"a bit of nvram": {func(t *testing.T, dir string, m *wireManifest) {
			_ = os.WriteFile(blobFile(dir, m.Layers[8].Digest), make([]byte, m.Layers[8].Size), 0o644)
		}, tartcheck.ErrDigest, "layer 8"},
		"a truncated blob": {func(t *testing.T, dir string, m *wireManifest) {
			_ = os.Truncate(blobFile(dir, m.Layers[1].Digest), m.Layers[1].Size-1)
		}, tartcheck.ErrTruncated, "layer 1"},
		"a blob that grew": {func(t *testing.T, dir string, m *wireManifest) {
			_ = os.WriteFile(blobFile(dir, m.Layers[0].Digest), make([]byte, m.Layers[0].Size+1), 0o644)
		}, tartcheck.ErrSize, "layer 0"},
		"no blob": {func(t *testing.T, dir string, m *wireManifest) {
			_ = os.Remove(blobFile(dir, m.Layers[2].Digest))
		}, os.ErrNotExist, "layer 2"},
		"no digest": {func(t *testing.T, dir string, m *wireManifest) {
			m.Layers[1].Digest = "sha256:../../../index.json"
		}, tartcheck.ErrDigest, "layer 1"},

		"a truncated stream":    {stream(func(b []byte) []byte { return b[:len(b)-4] }), tartcheck.ErrTruncated, "layer 1"},
		"a stream cut in two":   {stream(func(b []byte) []byte { return b[:len(b)/2] }), tartcheck.ErrTruncated, "layer 1"},
		"a stream and more":     {stream(func(b []byte) []byte { return append(b, 0) }), tartcheck.ErrStream, "follow its end"},
		"an early end":          {stream(func([]byte) []byte { return []byte("bv4$") }), tartcheck.ErrTruncated, "holds 0 bytes"},
		"another compression":   {stream(func([]byte) []byte { return []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0} }), tartcheck.ErrStream, "layer 1"},
		"another chunk's bytes": {func(t *testing.T, dir string, m *wireManifest) { m.Layers[1] = m.Layers[2] }, tartcheck.ErrDisk, "byte 4096 differs"},
		"a wrong content digest": {func(t *testing.T, dir string, m *wireManifest) {
			m.Layers[1].Annotations = m.Layers[2].Annotations
		}, tartcheck.ErrDigest, "the content of layer 1"},

		"an unknown media type": {func(t *testing.T, dir string, m *wireManifest) {
			m.Layers[3].MediaType = "application/vnd.cirruslabs.tart.disk.v1"
		}, tartcheck.ErrMediaType, "layer 3"},
		"an unknown config": {func(t *testing.T, dir string, m *wireManifest) {
			m.Config.MediaType = "application/vnd.oci.empty.v1+json"
		}, tartcheck.ErrMediaType, "config"},
		"a Docker manifest": {func(t *testing.T, dir string, m *wireManifest) {
			m.MediaType = "application/vnd.docker.distribution.manifest.v2+json"
		}, tartcheck.ErrMediaType, "docker"},
		"nvram first": {func(t *testing.T, dir string, m *wireManifest) {
			m.Layers[0], m.Layers[8] = m.Layers[8], m.Layers[0]
		}, tartcheck.ErrOrder, "layer 0"},
		"config among the disk": {func(t *testing.T, dir string, m *wireManifest) {
			m.Layers[0], m.Layers[1] = m.Layers[1], m.Layers[0]
		}, tartcheck.ErrOrder, "layer 1"},
		"no disk": {func(t *testing.T, dir string, m *wireManifest) {
			m.Layers = []wireDescriptor{m.Layers[0], m.Layers[8]}
		}, tartcheck.ErrOrder, "2 layers"},

		"no content digest": {func(t *testing.T, dir string, m *wireManifest) {
			m.Layers[1].Annotations = map[string]string{plainSizeAnnotation: "1048576"}
		}, tartcheck.ErrAnnotation, "layer 1"},
		"a size that is none": {func(t *testing.T, dir string, m *wireManifest) {
			m.Layers[1].Annotations[plainSizeAnnotation] = "-1"
		}, tartcheck.ErrAnnotation, "layer 1"},
		"a chunk of more": {func(t *testing.T, dir string, m *wireManifest) {
			m.Layers[7].Annotations[plainSizeAnnotation] = "1048577"
		}, tartcheck.ErrSize, "layer 7"},
		"a disk that is odd": {func(t *testing.T, dir string, m *wireManifest) {
			m.Layers[7].Annotations[plainSizeAnnotation] = "4095"
		}, tartcheck.ErrSize, "multiple of 512"},
		"another disk size": {func(t *testing.T, dir string, m *wireManifest) {
			m.Annotations[diskSizeAnnotation] = "6295551"
		}, tartcheck.ErrAnnotation, "6295551"},
		"no upload time": {func(t *testing.T, dir string, m *wireManifest) {
			delete(m.Annotations, uploadTimeAnnotation)
		}, tartcheck.ErrAnnotation, "upload-time"},
		"a chunk is missing": {func(t *testing.T, dir string, m *wireManifest) {
			m.Layers = append(m.Layers[:5], m.Layers[6:]...)
			m.Annotations[diskSizeAnnotation] = "5246976"
		}, tartcheck.ErrDisk, "6295552"},

		"unknown nvram": {replace(8, make([]byte, 131072)), tartcheck.ErrNVRAM, "fa43239bcee7b97ca62f007cc68487560a39e19f74f3dde7486db3f98df8e471"},
		"no JSON":       {replace(0, []byte("{")), tartcheck.ErrConfig, "layer 0"},
		"one processor": {config(`"cpuCountMin": 2`, `"cpuCountMin": 1`), tartcheck.ErrConfig, "processors"},
		"for macOS":     {config(`"linux"`, `"darwin"`), tartcheck.ErrConfig, "os is not linux"},
		"for amd64":     {config(`"arm64"`, `"amd64"`), tartcheck.ErrConfig, "arch is not arm64"},
		"the config for amd64": {func(t *testing.T, dir string, m *wireManifest) {
			putBlob(t, dir, []byte(`{"architecture":"amd64"}`), &m.Config)
		}, tartcheck.ErrLayout, "amd64"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := writeChunks(t, disk, 2)
			m := readManifest(t, dir)
			c.damage(t, dir, &m)

			writeManifest(t, dir, m)

			err := tartcheck.Layout(t.Context(), dir, disk)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %v and %q", err, c.want, c.says)
			}
			if c.want == tartcheck.ErrDisk { // seen by comparing with the disk alone
				return
			}
			err = tartcheck.Extract(t.Context(), dir, filepath.Join(t.TempDir(), "vm"))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("extracting: error %v, want %v and %q", err, c.want, c.says)
			}
		})
	}
}

// TestCheck_IndexFaults: what leads to the manifest.
func TestCheck_IndexFaults(t *testing.T) {
	disk := severalChunks(t, true)
	for name, c := range map[string]struct {
		file, content string
		want          error
	}{
		"another layout": {"oci-layout", `{"imageLayoutVersion":"2.0.0"}`, tartcheck.ErrLayout},
		"no JSON":        {"index.json", `{`, tartcheck.ErrLayout},
		"no manifest":    {"index.json", `{"manifests":[]}`, tartcheck.ErrLayout},
		"an index":       {"index.json", `{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json"}]}`, tartcheck.ErrMediaType},
	} {
		dir := writeChunks(t, disk, 1)
		if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := tartcheck.Layout(t.Context(), dir, ""); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
	}
}

// TestCheck_AnotherDisk: a disk that differs in a byte, in a hole too.
func TestCheck_AnotherDisk(t *testing.T) {
	disk := severalChunks(t, true)
	dir := writeChunks(t, disk, 1)
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{1}, 5*testChunk+77); err != nil {
		t.Fatal(err)
	}
	if err := tartcheck.Layout(t.Context(), dir, disk); !errors.Is(err, tartcheck.ErrDisk) || !strings.Contains(err.Error(), "byte 5242957 differs") {
		t.Errorf("error %v", err)
	}
	if err := tartcheck.Layout(t.Context(), dir, ""); err != nil {
		t.Errorf("without a disk: %v", err)
	}

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tartcheck.Layout(cancelled, dir, disk); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestExtract makes of an artifact the directory that was written from the same
// disk, with its holes.
func TestExtract(t *testing.T) {
	for _, sparse := range []bool{true, false} {
		disk := severalChunks(t, sparse)
		layout, vm, want := writeChunks(t, disk, 2), filepath.Join(t.TempDir(), "vm"), filepath.Join(t.TempDir(), "want")
		if err := tartcheck.Manifest(layout); err != nil {
			t.Error(err)
		}
		if err := tartcheck.Extract(t.Context(), layout, vm); err != nil {
			t.Fatal(err)
		}
		if err := tartcheck.Directory(vm); err != nil {
			t.Error(err)
		}
		if err := New(spec(), disk).WriteDirectory(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(tree(t, vm), tree(t, want)) {
			t.Errorf("sparse %t: not the same files", sparse)
		}
		// Zeros that the disk has as bytes are holes too, where they are 64 KiB.
		if got, whole := blocks(t, filepath.Join(vm, "disk.img")), int64(6295552/512); got > whole/4 {
			t.Errorf("sparse %t: %d blocks of %d are used", sparse, got, whole)
		}

		if err := tartcheck.Extract(t.Context(), layout, vm); !errors.Is(err, os.ErrExist) {
			t.Errorf("over a directory that is there: %v", err)
		}
	}
}

// TestManifest needs none of the other blobs.
func TestManifest(t *testing.T) {
	dir := writeChunks(t, severalChunks(t, true), 1)
	m := readManifest(t, dir)
	for _, blob := range append(m.Layers, m.Config) {
		_ = os.Remove(blobFile(dir, blob.Digest))
	}
	if err := tartcheck.Manifest(dir); err != nil {
		t.Error(err)
	}

	m.Layers = m.Layers[1:]
	writeManifest(t, dir, m)
	if err := tartcheck.Manifest(dir); !errors.Is(err, tartcheck.ErrOrder) {
		t.Errorf("without its first layer: %v", err)
	}
}
