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
		return a.storedImage(ctx)
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
		return vm.Image{}, "", fmt.Errorf("%w for %s: give %s: `%s`",
			ErrNoImage, a.Settings.VM.Name, a.imageHint(), a.command("up", "--image", "DIR"))
	case err != nil:
		return vm.Image{}, "", err
	}
	if _, err := os.Stat(before.Config.Image.Disk); err != nil {
		return vm.Image{}, "", fmt.Errorf("%w: the image of %s is gone (%v): give it again with `%s`; its data is safe",
			ErrNoImage, a.Settings.VM.Name, err, a.command("up", "--image", "DIR"))
	}
	return before.Config.Image, before.Config.Architecture, nil
}

// imageHint is what may be given as an image.
func (a *App) imageHint() string {
	if a.diskFormat() == builders.TartFormat {
		return "a Tart VM's directory, that of a build, or the reference of an artifact in a registry"
	}
	return "the directory of one, which holds its qcow2, kernel, initrd and manifest"
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

// asImage names the files of the image, whose disk has a format. renew is the
// command that makes the image anew, for messages.
func (f imageFiles) asImage(disk, renew string) (vm.Image, error) {
	m := f.manifest
	image := vm.Image{CommandLine: m.CommandLine, Suite: m.Suite, Renew: renew}
	wanted := map[string]*string{disk: &image.Disk, "kernel": &image.Kernel, "initrd": &image.Initrd}
	if disk == builders.TartFormat { // a directory, which boots by itself
		image.CommandLine = ""
		wanted = map[string]*string{disk: &image.Disk}
	}
	for format, path := range wanted {
		artifact, ok := f.artifact(format)
		if !ok {
			return image, fmt.Errorf("the image in %s has no %s: make it again with `%s`", f.dir, format, renew)
		}
		if err := f.checkPlace(artifact); err != nil {
			return image, err
		}
		*path = filepath.Join(f.dir, artifact.File)
		if format == builders.TartFormat {
			*path = filepath.Dir(*path)
		}
		if format == disk {
			image.SHA256 = artifact.SHA256
		}
	}
	return image, nil
}

// tartDisk is the disk's name in a Tart VM's directory.
const tartDisk = "disk.img"

// artifact is the file of a format; of a Tart VM, its disk.
func (f imageFiles) artifact(format string) (builders.Artifact, bool) {
	if format != builders.TartFormat {
		return f.manifest.Artifact(format)
	}
	for _, a := range f.manifest.Artifacts {
		if a.Format == format && filepath.Base(a.File) == tartDisk {
			return a, true
		}
	}
	return builders.Artifact{}, false
}

// checkPlace refuses a file that does not lie beside the manifest, or, of a Tart
// VM, in a directory there.
func (f imageFiles) checkPlace(artifact builders.Artifact) error {
	dir, base := filepath.Split(filepath.FromSlash(artifact.File))
	dir = filepath.Clean(dir)
	if artifact.Format == builders.TartFormat && dir != "." && dir == filepath.Base(dir) && dir != ".." && base != "" {
		return nil
	}
	if artifact.File == "" || artifact.File != filepath.Base(artifact.File) {
		return fmt.Errorf("the manifest %s names the file %q, which is not beside it", f.name, artifact.File)
	}
	return nil
}

// imagesDir is where given images are copied to.
func (a *App) imagesDir() string { return filepath.Join(a.Settings.StateDir, "images") }

// storedImage takes the image that the user gave into the host's state, unless
// it is there, and returns the copy: what the user gave may go.
func (a *App) storedImage(ctx context.Context) (vm.Image, string, error) {
	given, err := a.given(ctx)
	if err != nil {
		return vm.Image{}, "", err
	}
	store := imageStore{dir: a.imagesDir(), app: a}
	stored, err := store.take(ctx, given)
	if err != nil {
		return vm.Image{}, "", fmt.Errorf("take the image %s: %w", a.Settings.Image, err)
	}
	image, err := stored.asImage(a.diskFormat(), a.command("up", "--image", "DIR"))
	return image, stored.manifest.Architecture, err
}

// givenImage is an image that the user gave.
type givenImage struct {
	// key is its name in the store: the SHA-256 of its disk or, of one in a
	// registry, of its manifest.
	key string

	// fill writes it to a new directory of the store, verified and durable.
	fill func(ctx context.Context, s imageStore, to string) error
}

// isKey reports whether s is a SHA-256 in hexadecimal, so that it may be a name in
// the store.
func isKey(s string) bool {
	return len(s) == hex.EncodedLen(sha256.Size) && strings.Trim(s, "0123456789abcdef") == ""
}

// given finds the image that the user gave: a directory, or a reference to a
// registry.
func (a *App) given(ctx context.Context) (givenImage, error) {
	path := a.Settings.Image
	if !filepath.IsAbs(path) {
		path = filepath.Join(a.Settings.base, path)
	}
	if _, err := os.Stat(path); err != nil && isReference(a.Settings.Image) {
		return a.givenReference(ctx)
	}

	files, err := a.openGiven(ctx, path)
	if err != nil {
		return givenImage{}, err
	}
	image, err := files.asImage(a.diskFormat(), a.command("up", "--image", "DIR"))
	if err != nil {
		return givenImage{}, err
	}
	if !isKey(image.SHA256) {
		return givenImage{}, fmt.Errorf("the manifest %s has %q where the disk's SHA-256 should be", files.name, image.SHA256)
	}
	return givenImage{image.SHA256, func(ctx context.Context, s imageStore, to string) error { return s.copy(ctx, files, to) }}, nil
}

// openGiven opens the image at path: that of a build, or a Tart VM's directory.
func (a *App) openGiven(ctx context.Context, path string) (imageFiles, error) {
	if _, err := os.Stat(filepath.Join(path, tartDisk)); err == nil && a.diskFormat() == builders.TartFormat {
		return describeTart(ctx, path)
	}
	return openImage(path)
}

// sameImage reports whether an instance's image is the one that the user gave.
func (g givenImage) sameImage(image vm.Image) bool {
	return g.key == image.SHA256 || g.key == storedKey(image)
}

// storedKey is the name in the store that an image would have. The path may lead
// there by a symbolic link.
func storedKey(image vm.Image) string { return filepath.Base(filepath.Dir(image.Disk)) }

// imageStore holds images that were given, each below its key. An image appears
// under its name at once and whole.
type imageStore struct {
	dir string
	app *App
}

// take returns the store's copy of an image, made when there is none.
func (s imageStore) take(ctx context.Context, given givenImage) (imageFiles, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return imageFiles{}, err
	}
	lock := flock.New(filepath.Join(s.dir, "lock"))
	if ok, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil || !ok {
		return imageFiles{}, fmt.Errorf("another command works on the stored images: %w", err)
	}
	defer lock.Unlock()

	target := filepath.Join(s.dir, given.key)
	if stored, err := openImage(target); err == nil && stored.complete() {
		return stored, nil
	}
	if err := s.prune(given.key); err != nil {
		return imageFiles{}, err
	}
	incoming := target + ".incoming" // only the holder of the lock makes one: what is there is what was cut off
	if err := os.RemoveAll(incoming); err != nil {
		return imageFiles{}, err
	}
	if err := given.fill(ctx, s, incoming); err != nil {
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
		if err := given.checkPlace(artifact); err != nil {
			return err
		}

		if artifact.Size > 64*vm.MiB {
			s.app.printLine("copying %s (%d MB)", artifact.File, artifact.Size/1e6)
		}
		target := filepath.Join(to, artifact.File)
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		if err := copyArtifact(ctx, artifact, filepath.Join(given.dir, artifact.File), target); err != nil {
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
	if err := vm.CopySparse(out, io.TeeReader(vm.ContextReader(ctx, in), sum)); err != nil {
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

// prune removes the images that no instance is made from any more. What there is
// of the image that is coming stays, for its fetching to go on there.
func (s imageStore) prune(coming string) error {
	instances := s.app.instances()
	names, err := instances.List()
	if err != nil {
		return err
	}
	used := map[string]bool{coming + layoutSuffix: true}
	for _, name := range names {
		inst, err := instances.Instance(name)
		if err != nil {
			return nil // its image is not known: better nothing is removed
		}
		used[storedKey(inst.Config.Image)] = true
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
