package tartcheck

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	imageType    = "application/vnd.oci.image.config.v1+json"

	configType = "application/vnd.cirruslabs.tart.config.v1"
	diskType   = "application/vnd.cirruslabs.tart.disk.v2"
	nvramType  = "application/vnd.cirruslabs.tart.nvram.v1"

	// maxChunk is how much of a disk a layer has at most.
	maxChunk = 512 << 20
	// maxSmall bounds what is read at once: all but the disk.
	maxSmall = 4 << 20
)

// descriptor names a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations"`
}

// layout is a layout that is being checked.
type layout struct{ dir string }

// Layout checks an OCI layout of a Tart artifact: manifest, order of the layers,
// annotations, every digest and every chunk of the disk, which it unpacks. It
// compares the disk with the file disk, unless that is "". Every fault is named.
func Layout(ctx context.Context, dir, disk string) error {
	if err := (layout{dir}).check(ctx, disk); err != nil {
		return fmt.Errorf("the Tart artifact %s: %w", dir, err)
	}
	return nil
}

// artifact reads the manifest and the chunks of the disk that it names.
func (l layout) artifact() (m manifest, chunks []chunk, err error) {
	if m, err = l.manifest(); err != nil {
		return m, nil, err
	}
	chunks, err = m.parts()
	return m, chunks, err
}

func (l layout) check(ctx context.Context, disk string) error {
	m, chunks, err := l.artifact()
	if err != nil {
		return err
	}
	return errors.Join(
		l.checkSmall("the config", m.Config, checkImageConfig),
		l.checkSmall("layer 0", m.Layers[0], checkConfig),
		l.checkSmall(fmt.Sprintf("layer %d", len(m.Layers)-1), m.Layers[len(m.Layers)-1], checkNVRAM),
		l.checkDisk(ctx, chunks, disk),
	)
}

// manifest reads the layout's only manifest, which must be an image's.
func (l layout) manifest() (manifest, error) {
	var marker struct{ ImageLayoutVersion string }
	var index struct{ Manifests []descriptor }
	var m manifest
	for name, v := range map[string]any{"oci-layout": &marker, "index.json": &index} {
		b, err := os.ReadFile(filepath.Join(l.dir, name))
		if err != nil {
			return m, err
		}
		if err := json.Unmarshal(b, v); err != nil {
			return m, fmt.Errorf("%w: %s: %w", ErrLayout, name, err)
		}
	}
	if marker.ImageLayoutVersion != "1.0.0" || len(index.Manifests) != 1 {
		return m, fmt.Errorf("%w: version %q, %d manifests", ErrLayout, marker.ImageLayoutVersion, len(index.Manifests))
	}

	d := index.Manifests[0]
	if d.MediaType != manifestType {
		return m, fmt.Errorf("%w: the manifest's is %q: Tart takes no index", ErrMediaType, d.MediaType)
	}
	b, err := l.readSmall("the manifest", d)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%w: manifest: %w", ErrLayout, err)
	}
	if m.SchemaVersion != 2 || m.MediaType != manifestType {
		return m, fmt.Errorf("%w: the manifest says schema %d, %q", ErrMediaType, m.SchemaVersion, m.MediaType)
	}
	return m, nil
}

// chunk is a layer of the disk.
type chunk struct {
	descriptor
	layer       int
	start, size int64 // in the disk
	plainDigest string
}

// parts checks the manifest's order and annotations and returns the chunks.
func (m manifest) parts() ([]chunk, error) {
	var faults []error
	fault := func(err error, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%w: "+format, append([]any{err}, args...)...))
	}

	if m.Config.MediaType != imageType {
		fault(ErrMediaType, "the config's is %q", m.Config.MediaType)
	}
	last := len(m.Layers) - 1
	if last < 2 {
		fault(ErrOrder, "%d layers: there are a config, at least one of the disk, and nvram", len(m.Layers))
		return nil, errors.Join(faults...)
	}

	var chunks []chunk
	var start int64
	for i, layer := range m.Layers {
		want := diskType
		switch i {
		case 0:
			want = configType
		case last:
			want = nvramType
		}
		switch {
		case layer.MediaType != configType && layer.MediaType != diskType && layer.MediaType != nvramType:
			fault(ErrMediaType, "layer %d is %q", i, layer.MediaType)
			continue
		case layer.MediaType != want:
			fault(ErrOrder, "layer %d is %q, not %q", i, layer.MediaType, want)
			continue
		case want != diskType:
			continue
		}

		c, err := chunkOf(i, start, layer)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		chunks = append(chunks, c)
		start += c.size
	}

	// Their sum is known only once each is.
	if len(faults) == 0 {
		faults = append(faults, m.checkSizes(chunks, start))
	}
	return chunks, errors.Join(faults...)
}

var digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func chunkOf(layer int, start int64, d descriptor) (chunk, error) {
	const sizeName, digestName = "org.cirruslabs.tart.uncompressed-size", "org.cirruslabs.tart.uncompressed-content-digest"
	c := chunk{descriptor: d, layer: layer, start: start, plainDigest: d.Annotations[digestName]}
	var err error
	if c.size, err = strconv.ParseInt(d.Annotations[sizeName], 10, 64); err != nil || c.size <= 0 || c.size > maxChunk {
		return c, fmt.Errorf("%w: layer %d has the %s %q", ErrAnnotation, layer, sizeName, d.Annotations[sizeName])
	}
	if !digestPattern.MatchString(c.plainDigest) {
		return c, fmt.Errorf("%w: layer %d has the %s %q", ErrAnnotation, layer, digestName, c.plainDigest)
	}
	return c, nil
}

// checkSizes checks the annotations of the manifest, and that all chunks but the
// last are of one size.
func (m manifest) checkSizes(chunks []chunk, total int64) error {
	const sizeName, timeName = "org.cirruslabs.tart.uncompressed-disk-size", "org.cirruslabs.tart.upload-time"
	faults := []error{checkDiskSize(total)}
	for i, c := range chunks {
		if c.size > chunks[0].size || i < len(chunks)-1 && c.size != chunks[0].size {
			faults = append(faults, fmt.Errorf("%w: layer %d has %d bytes of the disk, layer %d has %d", ErrSize, c.layer, c.size, chunks[0].layer, chunks[0].size))
		}
	}
	if m.Annotations[sizeName] != strconv.FormatInt(total, 10) {
		faults = append(faults, fmt.Errorf("%w: the %s is %q, the chunks have %d bytes", ErrAnnotation, sizeName, m.Annotations[sizeName], total))
	}
	if _, err := time.Parse("2006-01-02T15:04:05Z", m.Annotations[timeName]); err != nil {
		faults = append(faults, fmt.Errorf("%w: the %s is %q", ErrAnnotation, timeName, m.Annotations[timeName]))
	}
	return errors.Join(faults...)
}

func checkImageConfig(b []byte) error {
	var c struct {
		Architecture, OS string
		Config           struct{ Labels map[string]string }
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("%w: %w", ErrLayout, err)
	}
	if format := c.Config.Labels["org.cirruslabs.tart.disk.format"]; c.Architecture != "arm64" || c.OS != "linux" || format != "raw" {
		return fmt.Errorf("%w: it is of %s/%s with the disk format %q, not of linux/arm64 with \"raw\"", ErrLayout, c.OS, c.Architecture, format)
	}
	return nil
}

// checkSmall checks a blob that is not of the disk.
func (l layout) checkSmall(what string, d descriptor, check func([]byte) error) error {
	_, err := l.readChecked(what, d, check)
	return err
}

// readChecked reads a blob that is not of the disk, and checks it.
func (l layout) readChecked(what string, d descriptor, check func([]byte) error) ([]byte, error) {
	b, err := l.readSmall(what, d)
	if err != nil {
		return nil, err
	}
	if err := check(b); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return b, nil
}

func (l layout) readSmall(what string, d descriptor) ([]byte, error) {
	f, err := l.open(what, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if d.Size > maxSmall {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrSize, what, d.Size)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return b, checkDigest(what, d.Digest, sum[:])
}

// open opens a blob of which the size is right.
func (l layout) open(what string, d descriptor) (*os.File, error) {
	if !digestPattern.MatchString(d.Digest) {
		return nil, fmt.Errorf("%w: %s has %q, which is none of SHA-256", ErrDigest, what, d.Digest)
	}
	f, err := os.Open(filepath.Join(l.dir, "blobs", "sha256", d.Digest[len("sha256:"):]))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.Size() < d.Size:
		err = fmt.Errorf("%w: the blob of %s has %d of %d bytes", ErrTruncated, what, info.Size(), d.Size)
	case info.Size() > d.Size:
		err = fmt.Errorf("%w: the blob of %s has %d bytes, not %d", ErrSize, what, info.Size(), d.Size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func checkDigest(what, want string, sum []byte) error {
	if got := "sha256:" + hex.EncodeToString(sum); got != want {
		return fmt.Errorf("%w: %s is %s, not %s", ErrDigest, what, got, want)
	}
	return nil
}
