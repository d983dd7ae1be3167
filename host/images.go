package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/vm"
)

// image returns the image to start and its architecture: the one that was
// given, else the program's own, else the one that the instance had before.
func (a *App) image(ctx context.Context) (vm.Image, string, error) {
	if a.Settings.Image != "" {
		return a.storedImage(ctx, a.Settings.Image)
	}
	if a.Program.Image != nil {
		path, err := a.Program.Image(ctx, a.Out)
		if err != nil {
			return vm.Image{}, "", err
		}
		built, err := openImage(path)
		if err != nil {
			return vm.Image{}, "", err
		}
		image, err := built.asImage(a.diskFormat(), a.Program.Command("", "rootvm", "build"))
		return image, built.manifest.Architecture, err
	}

	before, err := a.instances().Instance(a.Settings.VM.Name)
	switch {
	case errors.Is(err, vm.ErrNotFound):
		return vm.Image{}, "", fmt.Errorf("%w for %s: give the directory of one, which holds its qcow2, kernel, initrd and manifest: `%s`",
			ErrNoImage, a.Settings.VM.Name, a.command("up", "--image", "DIR"))
	case err != nil:
		return vm.Image{}, "", err
	}
	if _, err := os.Stat(before.Config.Image.Disk); err != nil {
		return vm.Image{}, "", fmt.Errorf("%w: the image of %s is gone (%v): give it again with `%s`; its data is safe",
			ErrNoImage, a.Settings.VM.Name, err, a.command("up", "--image", "DIR"))
	}
	return before.Config.Image, before.Config.Architecture, nil
}

// imageFiles is an image as a build leaves it: a manifest and, beside it, the
// files that it names.
type imageFiles struct {
	dir      string
	name     string // file name of the manifest
	manifest builders.Manifest
}

const manifestSuffix = ".manifest.json"

// openImage reads the manifest at path, or the only one in the directory path.
func openImage(path string) (imageFiles, error) {
	info, err := os.Stat(path)
	if err != nil {
		return imageFiles{}, fmt.Errorf("image: %w: give the directory of an image", err)
	}
	if info.IsDir() {
		found, err := filepath.Glob(filepath.Join(path, "rockpool-root-*"+manifestSuffix))
		switch {
		case err != nil:
			return imageFiles{}, fmt.Errorf("image: %w", err)
		case len(found) == 0:
			return imageFiles{}, fmt.Errorf("%w in %s: it holds no rockpool-root-*%s", ErrNoImage, path, manifestSuffix)
		case len(found) > 1:
			return imageFiles{}, fmt.Errorf("%s holds %d images: give the manifest of one, such as %s", path, len(found), found[0])
		}
		path = found[0]
	}
	m, err := builders.ReadManifest(path)
	return imageFiles{dir: filepath.Dir(path), name: filepath.Base(path), manifest: m}, err
}

// diskFormat is the format of the disks that instances are made from.
func (a *App) diskFormat() string { return a.driver().open().Capabilities().ImageFormat }

// asImage names the files of the image, whose disk has a format. renew is the command that makes the
// image anew, for messages.
func (f imageFiles) asImage(disk, renew string) (vm.Image, error) {
	m := f.manifest
	image := vm.Image{CommandLine: m.CommandLine, Suite: m.Suite, Renew: renew}
	for format, path := range map[string]*string{disk: &image.Disk, "kernel": &image.Kernel, "initrd": &image.Initrd} {
		artifact, ok := m.Artifact(format)
		if !ok {
			return image, fmt.Errorf("the image in %s has no %s: make it again with `%s`", f.dir, format, renew)
		}
		if artifact.File != filepath.Base(artifact.File) {
			return image, fmt.Errorf("the manifest %s names the file %q, which is not beside it", f.name, artifact.File)
		}
		*path = filepath.Join(f.dir, artifact.File)
		if format == disk {
			image.SHA256 = artifact.SHA256
		}
	}
	return image, nil
}

// imagesDir is where given images are copied to.
func (a *App) imagesDir() string { return filepath.Join(a.Settings.StateDir, "images") }

// storedImage copies the image at path into the host's state, unless it is
// there, and returns the copy: the directory that the user gave may go.
func (a *App) storedImage(ctx context.Context, path string) (vm.Image, string, error) {
	given, err := openImage(path)
	if err != nil {
		return vm.Image{}, "", err
	}
	renew := a.command("up", "--image", "DIR")
	image, err := given.asImage(a.diskFormat(), renew)
	if err != nil {
		return image, "", err
	}
	if len(image.SHA256) != hex.EncodedLen(sha256.Size) || strings.Trim(image.SHA256, "0123456789abcdef") != "" {
		return image, "", fmt.Errorf("the manifest %s has %q where the disk's SHA-256 should be", given.name, image.SHA256)
	}

	store := imageStore{dir: a.imagesDir(), app: a}
	copied, err := store.take(ctx, given, image.SHA256)
	if err != nil {
		return image, "", fmt.Errorf("copy the image of %s: %w", path, err)
	}
	image, err = copied.asImage(a.diskFormat(), renew)
	return image, given.manifest.Architecture, err
}

// imageStore holds images that were given by directory, each below the SHA-256
// of its disk. An image appears under its name at once and whole.
type imageStore struct {
	dir string
	app *App
}

// take returns the store's copy of an image, made when there is none.
func (s imageStore) take(ctx context.Context, given imageFiles, digest string) (imageFiles, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return imageFiles{}, err
	}
	lock := flock.New(filepath.Join(s.dir, "lock"))
	if ok, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil || !ok {
		return imageFiles{}, fmt.Errorf("another command works on the stored images: %w", err)
	}
	defer lock.Unlock()

	target := filepath.Join(s.dir, digest)
	if stored, err := openImage(target); err == nil && stored.complete() {
		return stored, nil
	}
	if err := s.prune(); err != nil {
		return imageFiles{}, err
	}
	incoming := target + ".incoming" // only the holder of the lock makes one: what is there is what was cut off
	if err := os.RemoveAll(incoming); err != nil {
		return imageFiles{}, err
	}
	if err := s.copy(ctx, given, incoming); err != nil {
		return imageFiles{}, errors.Join(err, os.RemoveAll(incoming))
	}
	if err := os.RemoveAll(target); err != nil {
		return imageFiles{}, err
	}
	if err := os.Rename(incoming, target); err != nil {
		return imageFiles{}, err
	}
	return openImage(target)
}

// complete reports whether every file is there and as long as it should be.
func (f imageFiles) complete() bool {
	for _, artifact := range f.manifest.Artifacts {
		info, err := os.Stat(filepath.Join(f.dir, artifact.File))
		if err != nil || info.Size() != artifact.Size {
			return false
		}
	}
	return true
}

// copy copies the files of an image to a new directory, compares each with its
// digest on the way, and makes them durable.
func (s imageStore) copy(ctx context.Context, given imageFiles, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}

	kept := given.manifest
	kept.Artifacts = nil
	for _, artifact := range given.manifest.Artifacts {
		switch artifact.Format {
		case s.app.diskFormat(), "kernel", "initrd":
		default:
			continue // nothing that an instance needs
		}
		if artifact.File != filepath.Base(artifact.File) {
			return fmt.Errorf("the manifest names the file %q, which is not beside it", artifact.File)
		}

		if artifact.Size > 64*vm.MiB {
			s.app.printLine("copying %s (%d MB)", artifact.File, artifact.Size/1e6)
		}
		if err := copyArtifact(ctx, artifact, filepath.Join(given.dir, artifact.File), filepath.Join(to, artifact.File)); err != nil {
			return err
		}
		kept.Artifacts = append(kept.Artifacts, artifact)
	}
	return kept.Write(filepath.Join(to, given.name))
}

func copyArtifact(ctx context.Context, artifact builders.Artifact, from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()

	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, sum), vm.ContextReader(ctx, in)); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != artifact.SHA256 {
		return fmt.Errorf("%s is corrupt: its SHA-256 is %s, its manifest says %s: get the image again", artifact.File, got, artifact.SHA256)
	}
	return out.Sync()
}

// pruneAge is how long an image that no instance is made from stays: another
// command may be about to start from it.
const pruneAge = time.Hour

// prune removes the images that no instance is made from any more.
func (s imageStore) prune() error {
	instances := s.app.instances()
	names, err := instances.List()
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, name := range names {
		inst, err := instances.Instance(name)
		if err != nil {
			return nil // its image is not known: better nothing is removed
		}
		// By the digest alone: the path may have led here by a symbolic link.
		used[filepath.Base(filepath.Dir(inst.Config.Image.Disk))] = true
	}

	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(s.dir, e.Name())
		info, err := e.Info()
		if err != nil || !e.IsDir() || used[e.Name()] || time.Since(info.ModTime()) < pruneAge {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove an image that is used no more: %w", err)
		}
	}
	return nil
}
