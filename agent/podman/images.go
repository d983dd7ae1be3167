//go:build remote

package podman

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containers/podman/v5/pkg/bindings/containers"
	"github.com/containers/podman/v5/pkg/bindings/images"
	"github.com/containers/podman/v5/pkg/specgen"
	"github.com/google/renameio/v2"
	ociv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/guest"
)

// CarriedDir is where the VM carries the default image: its root file system
// in rootfs/, its OCI configuration in config.json, and its digest, one line,
// in digest.
const CarriedDir = guest.WorkspaceDir

// Carried is the image that the VM carries.
type Carried struct {
	FS fs.FS // usually os.DirFS(CarriedDir)
}

// image is what a container is made from. Its root file system is in
// [agent.Storage], by its digest.
type image struct {
	Reference string            `json:"reference"` // as asked for first
	Digest    string            `json:"digest"`
	Config    ociv1.ImageConfig `json:"config"`
}

// isDefault reports whether a reference means the image that the VM carries.
func isDefault(reference string) bool {
	return reference == "" || reference == agent.DefaultImage
}

// read returns the image's configuration and digest.
func (c Carried) read() (image, error) {
	i := image{Reference: agent.DefaultImage}
	b, err := fs.ReadFile(c.FS, "config.json")
	if errors.Is(err, fs.ErrNotExist) {
		return i, agent.Errorf(agent.CodeValidation, "This VM carries no workspace image. Build the VM's image again, or name an image of your own.")
	}
	if err != nil {
		return i, fmt.Errorf("read the carried image: %w", err)
	}
	var oci ociv1.Image
	if err := json.Unmarshal(b, &oci); err != nil {
		return i, fmt.Errorf("config.json of the carried image: %w", err)
	}
	digest, err := fs.ReadFile(c.FS, "digest")
	if err != nil {
		return i, fmt.Errorf("read the carried image: %w", err)
	}
	i.Config, i.Digest = oci.Config, strings.TrimSpace(string(digest))
	return i, nil
}

// Catalog remembers the configurations of the images that workspaces were made
// from, a file for each digest: Podman does not know images that are in
// [agent.Storage], and an update of the VM takes the one that it carried away.
type Catalog struct{ Dir string }

// catalogExt ends the names of the catalog's files.
const catalogExt = ".json"

func (c Catalog) path(digest string) string {
	return filepath.Join(c.Dir, strings.ReplaceAll(digest, ":", "-")+catalogExt)
}

// put remembers an image.
func (c Catalog) put(i image) error {
	b, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("remember the image %s: %w", i.Digest, err)
	}
	if known, err := os.ReadFile(c.path(i.Digest)); err == nil && bytes.Equal(known, b) {
		return nil
	}
	if err := os.MkdirAll(c.Dir, 0o750); err != nil {
		return fmt.Errorf("remember the image %s: %w", i.Digest, err)
	}
	if err := renameio.WriteFile(c.path(i.Digest), b, 0o640, renameio.WithTempDir(c.Dir)); err != nil {
		return fmt.Errorf("remember the image %s: %w", i.Digest, err)
	}
	return nil
}

// all lists the images that are remembered. A file that cannot be read is none.
func (c Catalog) all() (found []image, err error) {
	names, err := filepath.Glob(filepath.Join(c.Dir, "*"+catalogExt))
	if err != nil {
		return nil, fmt.Errorf("list the images: %w", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("list the images: %w", err)
		}
		var i image
		if json.Unmarshal(b, &i) == nil && name == c.path(i.Digest) {
			found = append(found, i)
		}
	}
	return found, nil
}

// find returns the first image that is remembered and wanted.
func (c Catalog) find(wanted func(image) bool) (i image, ok bool, err error) {
	all, err := c.all()
	if n := slices.IndexFunc(all, wanted); n >= 0 {
		return all[n], true, err
	}
	return image{}, false, err
}

// forget forgets an image.
func (c Catalog) forget(digest string) error {
	if err := os.Remove(c.path(digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the image %s: %w", digest, err)
	}
	return nil
}

// image finds what c is made from, and has it in the storage. A workspace that
// has files stays on the image that they belong to, whatever its reference means
// by now.
func (e *Engine) image(ctx context.Context, c agent.Container, u agent.StorageUsage) (image, error) {
	if n := indexOf(u.Files, c.ID); n >= 0 {
		return e.imageOf(u.Files[n])
	}
	if isDefault(c.Image) {
		i, err := e.Carried.read()
		if err != nil {
			return i, err
		}
		return i, e.Catalog.put(i)
	}
	return e.ownImage(ctx, c.Image, u)
}

// imageOf is the image that the files of a workspace belong to.
func (e *Engine) imageOf(f agent.FilesUsage) (image, error) {
	if carried, err := e.Carried.read(); err == nil && carried.Digest == f.Image {
		return carried, e.Catalog.put(carried)
	}
	i, ok, err := e.Catalog.find(func(i image) bool { return i.Digest == f.Image })
	if err == nil && !ok {
		err = agent.Errorf(agent.CodeValidation, "It is not known any more how to start the image %s, from which the workspace was made. Its files are untouched.", f.Image)
	}
	return i, err
}

// ownImage has an image of the user's own in the storage: one that is there, or
// else the one in Podman's store, pulled unless it is there.
func (e *Engine) ownImage(ctx context.Context, reference string, u agent.StorageUsage) (image, error) {
	known, ok, err := e.Catalog.find(func(i image) bool {
		return i.Reference == reference && slices.ContainsFunc(u.Images, func(s agent.ImageUsage) bool { return s.Digest == i.Digest })
	})
	if err != nil {
		return known, err
	}
	if ok {
		return known, nil
	}

	var i image
	err = e.call(ctx, "pull", func(ctx context.Context) error {
		var err error
		i, err = e.pull(ctx, reference)
		return err
	})
	if err != nil {
		return i, err
	}
	if err := e.Catalog.put(i); err != nil {
		return i, err
	}
	agent.Progress(ctx)("The image is unpacked.")
	return i, e.call(ctx, "unpack an image", func(ctx context.Context) error { return e.unpack(ctx, i) })
}

// pull has an image in Podman's store, and tells what it is.
func (e *Engine) pull(ctx context.Context, reference string) (image, error) {
	i := image{Reference: reference}
	there, err := images.Exists(ctx, reference, nil)
	if err != nil {
		return i, err
	}
	if !there {
		e.Log.Info("pulling an image", "image", reference)
		agent.Progress(ctx)("The image is pulled.")
		if _, err := images.Pull(ctx, reference, new(images.PullOptions).WithQuiet(true).WithPolicy("missing")); err != nil {
			return i, imageFault(ctx, reference, err)
		}
	}

	report, err := images.GetImage(ctx, reference, nil)
	if err != nil {
		return i, err
	}
	if report.ImageData == nil || report.ID == "" {
		return i, errors.New("podman did not say what the image is")
	}
	i.Digest = "sha256:" + strings.TrimPrefix(report.ID, "sha256:")
	if report.Config != nil {
		i.Config = *report.Config
	}
	return i, nil
}

// unpackName names the container that exists while an image is copied out of
// Podman's store, and labelUnpack marks it.
const (
	unpackName  = "rockpool-unpack-"
	labelUnpack = "dev.rockpool.unpack" // digest of the image
)

// unpack copies the root file system of an image from Podman's store into the
// storage, by way of a container that never runs: Podman lays the layers over
// each other.
func (e *Engine) unpack(ctx context.Context, i image) error {
	s := specgen.NewSpecGenerator(strings.TrimPrefix(i.Digest, "sha256:"), false)
	s.Name = unpackName + strings.TrimPrefix(i.Digest, "sha256:")[:12]
	s.Labels = map[string]string{labelUnpack: i.Digest}
	s.Entrypoint, s.Command = []string{}, []string{"none"} // an image may have neither
	s.ImageVolumeMode = "ignore"
	s.NetNS = specgen.Namespace{NSMode: specgen.NoNetwork}

	if err := removeByName(ctx, s.Name); err != nil { // of an attempt that was killed
		return err
	}
	if _, err := containers.CreateWithSpec(ctx, s, nil); err != nil {
		return err
	}
	err := e.export(ctx, s.Name, i.Digest)
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	return cmp.Or(err, removeByName(clean, s.Name))
}

// export copies the root file system of a container into the storage.
func (e *Engine) export(ctx context.Context, name, digest string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	exported := make(chan error, 1)
	go func() {
		err := containers.Export(ctx, name, w, nil)
		exported <- err // before the archive ends: then it is known why
		_ = w.CloseWithError(err)
	}()

	err := e.Storage.AddImage(ctx, digest, r)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // what is behind the archive's end
	}
	if err == nil {
		return <-exported
	}
	select {
	case cause := <-exported:
		return cmp.Or(cause, err)
	default:
	}
	_ = r.CloseWithError(err)
	cancel()
	<-exported
	return err
}

// dropCopy removes an image that is in the storage from Podman's store. Where
// something else needs it there, such as a container of an earlier release, it
// stays until that is gone.
func (e *Engine) dropCopy(ctx context.Context, i image) error {
	id := strings.TrimPrefix(i.Digest, "sha256:")
	there, err := images.Exists(ctx, id, nil)
	if err != nil || !there {
		return err
	}
	_, errs := images.Remove(ctx, []string{id}, new(images.RemoveOptions).WithIgnore(true))
	if err := errors.Join(errs...); err != nil {
		e.Log.Info("an image stays in Podman's store, too", "image", i.Reference, "err", err)
	}
	return nil
}

// removeByName removes a container that does not run, if it is there.
func removeByName(ctx context.Context, name string) error {
	_, err := containers.Remove(ctx, name, new(containers.RemoveOptions).WithForce(true).WithVolumes(true).WithIgnore(true).WithTimeout(0))
	if isNotFound(err) {
		return nil
	}
	return err
}

// indexOf is where the files of a workspace are in a list, or -1.
func indexOf(all []agent.FilesUsage, id string) int {
	return slices.IndexFunc(all, func(f agent.FilesUsage) bool { return f.ID == id })
}
