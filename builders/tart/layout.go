package tart

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rockpool/rootvm/builders"
)

// What Tart calls the parts of an artifact, and what it annotates.
const (
	configMediaType = "application/vnd.cirruslabs.tart.config.v1"
	diskMediaType   = "application/vnd.cirruslabs.tart.disk.v2"
	nvramMediaType  = "application/vnd.cirruslabs.tart.nvram.v1"

	plainSizeAnnotation   = "org.cirruslabs.tart.uncompressed-size"           // of a chunk, decimal
	plainDigestAnnotation = "org.cirruslabs.tart.uncompressed-content-digest" // of a chunk
	diskSizeAnnotation    = "org.cirruslabs.tart.uncompressed-disk-size"      // of the manifest, decimal
	uploadTimeAnnotation  = "org.cirruslabs.tart.upload-time"                 // of the manifest, ISO 8601
)

// imageConfig is the manifest's config, the same for every image.
const imageConfig = `{"architecture":"arm64","os":"linux","config":{"Labels":{"org.cirruslabs.tart.disk.format":"raw"}}}`

// chunkSize is how much of the disk a layer has. Tart's is the same, and a pull
// works on several layers at a time.
const chunkSize = 512 * builders.MiB

// WriteLayout writes the OCI artifact at path, as an OCI layout of one manifest.
// The chunks of the disk that are zeros are one blob, made once. A directory
// that is there already is replaced by the whole new one; a failed or cancelled
// write leaves it.
func (i Image) WriteLayout(ctx context.Context, path string) error {
	w := layoutWriter{image: i, chunkSize: chunkSize, workers: runtime.GOMAXPROCS(0)}
	if err := w.write(ctx, path); err != nil {
		return fmt.Errorf("write the Tart artifact %s: %w", path, err)
	}
	return nil
}

// layoutWriter is a layout that is being written.
type layoutWriter struct {
	image     Image
	chunkSize int64
	workers   int
	dir       *pendingDirectory
}

func (w *layoutWriter) write(ctx context.Context, path string) error {
	config, err := w.image.Config.encode()
	if err != nil {
		return err
	}
	disk, size, err := w.image.openDisk()
	if err != nil {
		return err
	}
	defer disk.Close()

	if w.dir, err = createDirectory(path); err != nil {
		return err
	}
	defer w.dir.cleanup()
	for _, name := range []string{v1.ImageBlobsDir, filepath.Join(v1.ImageBlobsDir, string(digest.SHA256))} {
		if err := w.dir.makeDirectory(name); err != nil {
			return err
		}
	}

	chunks, err := w.writeChunks(ctx, disk, size)
	if err != nil {
		return err
	}
	if err := w.writeManifest(config, size, chunks); err != nil {
		return err
	}
	return w.dir.finish()
}

// blobName is where the layout has the blob of a digest.
func blobName(d digest.Digest) string {
	hex := strings.TrimPrefix(string(d), string(digest.SHA256)+":")
	return filepath.Join(v1.ImageBlobsDir, string(digest.SHA256), hex)
}

// writeChunks writes the disk's blobs and returns the chunks in order. Those
// that are holes are packed once for each of the at most two sizes.
func (w *layoutWriter) writeChunks(ctx context.Context, disk *os.File, size int64) ([]*chunk, error) {
	var all, packed []*chunk
	holes := map[int64]*chunk{}
	for start := int64(0); start < size; start += w.chunkSize {
		c := &chunk{extent: extent{start, min(start+w.chunkSize, size)}}
		var err error
		if c.data, err = extents(disk, c.start, c.end); err != nil {
			return nil, err
		}

		if len(c.data) == 0 {
			if same := holes[c.end-c.start]; same != nil {
				all = append(all, same)
				continue
			}
			holes[c.end-c.start] = c
		}
		all, packed = append(all, c), append(packed, c)
	}

	file := func(c *chunk) string { return filepath.Join(w.dir.tmp, "chunk-"+strconv.FormatInt(c.start, 10)) }
	if err := newPacking(disk, w.workers).run(ctx, packed, file); err != nil {
		return nil, err
	}
	for _, c := range packed {
		if err := os.Rename(file(c), filepath.Join(w.dir.tmp, blobName(c.digest))); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// writeManifest writes the small blobs and what leads to all: config.json first,
// then the disk, then nvram.bin, which is the order that Tart insists on.
func (w *layoutWriter) writeManifest(config []byte, size int64, chunks []*chunk) error {
	image, err := w.writeBlob(v1.MediaTypeImageConfig, []byte(imageConfig))
	if err != nil {
		return err
	}
	first, err := w.writeBlob(configMediaType, config)
	if err != nil {
		return err
	}
	last, err := w.writeBlob(nvramMediaType, nvram())
	if err != nil {
		return err
	}

	layers := []v1.Descriptor{first}
	for _, c := range chunks {
		layers = append(layers, v1.Descriptor{
			MediaType: diskMediaType, Digest: c.digest, Size: c.packedSize,
			Annotations: map[string]string{
				plainSizeAnnotation:   strconv.FormatInt(c.end-c.start, 10),
				plainDigestAnnotation: c.plainDigest.String(),
			},
		})
	}

	manifest, err := w.writeJSON(v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		Config:    image,
		Layers:    append(layers, last),
		Annotations: map[string]string{
			diskSizeAnnotation:   strconv.FormatInt(size, 10),
			uploadTimeAnnotation: w.image.Created.UTC().Format(time.RFC3339),
		},
	})
	if err != nil {
		return err
	}
	return w.writeIndex(manifest)
}

// writeIndex writes what makes a directory of blobs a layout.
func (w *layoutWriter) writeIndex(manifest v1.Descriptor) error {
	layout, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return err
	}
	index, err := json.Marshal(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{manifest},
	})
	if err != nil {
		return err
	}

	if err := w.dir.writeFile(v1.ImageLayoutFile, layout, 0o644); err != nil {
		return err
	}
	return w.dir.writeFile(v1.ImageIndexFile, index, 0o644)
}

func (w *layoutWriter) writeJSON(mediaType string, v any) (v1.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return w.writeBlob(mediaType, b)
}

func (w *layoutWriter) writeBlob(mediaType string, b []byte) (v1.Descriptor, error) {
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	return d, w.dir.writeFile(blobName(d.Digest), b, 0o644)
}
