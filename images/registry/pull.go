package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/image/v5/types"
	"golang.org/x/sync/errgroup"
)

// maxFetches is how many blobs are fetched at the same time.
const maxFetches = 4

// Digest asks the registry which manifest the reference names now.
func Digest(ctx context.Context, remote Remote) (string, error) {
	from, err := remote.Parse()
	if err != nil {
		return "", fmt.Errorf("pull: %w", err)
	}
	d, err := docker.GetDigest(ctx, remote.System(), from)
	if err != nil {
		return "", fmt.Errorf("pull %s: %w", remote.Reference, err)
	}
	return d.String(), nil
}

// Pull fetches the artifact whose manifest has a digest, and which is no index,
// into the OCI layout dir. Each blob is there once it is whole and has its
// digest. One that is there is not fetched again, so that a pull which was cut
// off goes on where it was. A connection that breaks is tried again as Push does.
// accept is asked as soon as the layout has its manifest, and its error ends the
// pull.
func Pull(ctx context.Context, dir string, remote Remote, manifest string, accept func() error) error {
	if err := pull(ctx, dir, remote, digest.Digest(manifest), accept); err != nil {
		return fmt.Errorf("pull %s: %w", remote.Reference, err)
	}
	return nil
}

func pull(ctx context.Context, dir string, remote Remote, manifest digest.Digest, accept func() error) error {
	from, err := remote.at(manifest)
	if err != nil {
		return err
	}
	f := fetch{blobs: filepath.Join(dir, v1.ImageBlobsDir, digest.SHA256.String())}
	if err := os.MkdirAll(f.blobs, 0o755); err != nil {
		return err
	}

	var m v1.Manifest
	nothing := NewProgress(nil, func(string) {})
	err = remote.Retry(ctx, nothing, "nothing yet", func() error {
		if f.source, err = from.NewImageSource(ctx, remote.System()); err != nil {
			return err
		}
		if m, err = f.manifest(ctx, dir, manifest); err != nil {
			return errors.Join(err, f.source.Close())
		}
		return nil
	})
	if err != nil {
		return err
	}
	defer f.source.Close()
	if err := accept(); err != nil {
		return err
	}

	wanted := map[digest.Digest]int64{m.Config.Digest: m.Config.Size}
	for _, layer := range m.Layers {
		wanted[layer.Digest] = layer.Size
	}
	f.progress = NewProgress(wanted, remote.Tell)
	return remote.Retry(ctx, f.progress, "what is here", func() error { return f.all(ctx, wanted) })
}

// at is the reference of a manifest in the remote's repository.
func (r Remote) at(manifest digest.Digest) (types.ImageReference, error) {
	if err := manifest.Validate(); err != nil || manifest.Algorithm() != digest.SHA256 {
		return nil, fmt.Errorf("the manifest's digest %q is none of SHA-256", manifest)
	}
	named, err := r.Parse()
	if err != nil {
		return nil, err
	}
	exact, err := reference.WithDigest(reference.TrimNamed(named.DockerReference()), manifest)
	if err != nil {
		return nil, err
	}
	return docker.NewReference(exact)
}

// fetch brings the blobs of one artifact.
type fetch struct {
	source   types.ImageSource
	blobs    string // directory of those that are here
	progress *Progress
}

// manifest fetches the manifest and writes the layout that has it alone.
func (f fetch) manifest(ctx context.Context, dir string, want digest.Digest) (m v1.Manifest, err error) {
	b, kind, err := f.source.GetManifest(ctx, nil)
	if err != nil {
		return m, err
	}
	if kind != v1.MediaTypeImageManifest {
		return m, fmt.Errorf("it is of the media type %q, and an artifact has one manifest, %q", kind, v1.MediaTypeImageManifest)
	}
	if got := digest.FromBytes(b); got != want {
		return m, fmt.Errorf("the registry sent a manifest with the digest %s in the place of %s", got, want)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("manifest: %w", err)
	}

	index, err := json.Marshal(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex,
		Manifests: []v1.Descriptor{{MediaType: kind, Digest: want, Size: int64(len(b))}},
	})
	if err != nil {
		return m, err
	}
	for path, content := range map[string][]byte{
		filepath.Join(f.blobs, want.Encoded()): b,
		filepath.Join(dir, v1.ImageIndexFile):  index,
		filepath.Join(dir, v1.ImageLayoutFile): []byte(`{"imageLayoutVersion":"` + v1.ImageLayoutVersion + `"}`),
	} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return m, err
		}
	}
	return m, nil
}

// all fetches those blobs that are not here, several at a time.
func (f fetch) all(ctx context.Context, sizes map[digest.Digest]int64) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxFetches)
	for name, size := range sizes {
		group.Go(func() error { return f.blob(ctx, types.BlobInfo{Digest: name, Size: size}) })
	}
	return group.Wait()
}

// blob fetches one, unless it is here. It gets its name once it is right.
func (f fetch) blob(ctx context.Context, blob types.BlobInfo) error {
	if err := blob.Digest.Validate(); err != nil || blob.Digest.Algorithm() != digest.SHA256 {
		return fmt.Errorf("the manifest names the blob %q, whose digest is none of SHA-256", blob.Digest)
	}
	path := filepath.Join(f.blobs, blob.Digest.Encoded())
	event := types.ProgressProperties{Artifact: blob}
	if info, err := os.Stat(path); err == nil && info.Size() == blob.Size {
		event.Event = types.ProgressEventSkipped
		f.progress.Add(event)
		return nil
	}

	body, _, err := f.source.GetBlob(ctx, blob, none.NoCache)
	if err != nil {
		return err
	}
	defer body.Close()
	unfinished, err := os.Create(path + ".unfinished")
	if err != nil {
		return err
	}
	defer os.Remove(unfinished.Name())
	defer unfinished.Close()

	sum := digest.SHA256.Digester()
	counted := &counter{progress: f.progress, event: event}
	// A byte more than it should have tells that it is too long.
	n, err := io.Copy(io.MultiWriter(unfinished, sum.Hash(), counted), io.LimitReader(body, blob.Size+1))
	switch {
	case err != nil:
		return fmt.Errorf("blob %s: %w", blob.Digest, err)
	case n < blob.Size:
		return fmt.Errorf("blob %s: %w: %d bytes of %d", blob.Digest, io.ErrUnexpectedEOF, n, blob.Size)
	case n > blob.Size:
		return fmt.Errorf("blob %s has more than its %d bytes", blob.Digest, blob.Size)
	case sum.Digest() != blob.Digest:
		return fmt.Errorf("the registry sent a blob with the digest %s in the place of %s", sum.Digest(), blob.Digest)
	}
	if err := errors.Join(unfinished.Sync(), os.Rename(unfinished.Name(), path)); err != nil {
		return err
	}
	event.Event, event.Offset = types.ProgressEventDone, uint64(n)
	f.progress.Add(event)
	return nil
}

// counter tells how much of a blob is here.
type counter struct {
	progress *Progress
	event    types.ProgressProperties
	told     uint64
}

// countStep is how much is read between two looks at the progress.
const countStep = 1 << 20

func (c *counter) Write(b []byte) (int, error) {
	c.event.Event = types.ProgressEventRead
	c.event.Offset += uint64(len(b))
	if c.event.Offset-c.told >= countStep {
		c.told = c.event.Offset
		c.progress.Add(c.event)
	}
	return len(b), nil
}
