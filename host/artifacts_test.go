package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/tart"
	"github.com/rockpool/rootvm/builders/tart/tartcheck"
	"github.com/rockpool/rootvm/vm"
)

// tartImage is a VM for Tart whose disk begins with content.
func tartImage(t *testing.T, content string) tart.Image {
	t.Helper()
	spec := builders.Spec{Architecture: "arm64", SourceDateEpoch: 1_700_000_000}
	spec.FillDefaults()
	disk := filepath.Join(t.TempDir(), "raw")
	writeFile(t, disk, content)
	if err := os.Truncate(disk, 1<<20); err != nil {
		t.Fatal(err)
	}
	return tart.New(spec, disk)
}

// writeTart writes the VM's directory of an image.
func writeTart(t *testing.T, content string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "rockpool.tart")
	if err := tartImage(t, content).WriteDirectory(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tartApp is the verbs where Tart runs the VM.
func tartApp(t *testing.T, program Program) *App {
	t.Helper()
	a, _ := app(t, program, "", map[string]string{"ROCKPOOL_DRIVER": "tart"})
	return a
}

// TestImages_TartDirectory: a VM's directory alone is an image, and so is that of
// a build which has one.
func TestImages_TartDirectory(t *testing.T) {
	vmDir := writeTart(t, "one")
	built := t.TempDir()
	m := builders.Manifest{Name: "rockpool-root-trixie-arm64", Suite: "trixie", Architecture: "arm64", CommandLine: "root=UUID=u"}
	if err := os.Rename(vmDir, filepath.Join(built, "x.tart")); err != nil {
		t.Fatal(err)
	}
	var err error
	if m.Artifacts, err = builders.DescribeDirectory(filepath.Join(built, "x.tart"), builders.TartFormat); err != nil {
		t.Fatal(err)
	}
	if err := m.Write(filepath.Join(built, m.Name+manifestSuffix)); err != nil {
		t.Fatal(err)
	}

	for _, given := range []string{built, filepath.Join(built, "x.tart")} {
		a := tartApp(t, Standalone())
		a.Settings.Image = given
		image, architecture, err := a.image(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := vm.Image{
			Disk: filepath.Join(a.Settings.StateDir, "images", image.SHA256, "x.tart"), SHA256: image.SHA256,
			Suite: image.Suite, Renew: "rockpool up --image DIR",
		}
		if image != want || architecture != "arm64" {
			t.Errorf("image %+v of %s, want %+v", image, architecture, want)
		}
		disk := filepath.Join(image.Disk, "disk.img")
		if b, err := os.ReadFile(disk); err != nil || !strings.HasPrefix(string(b), "one") || digestOf(string(b)) != image.SHA256 || len(b) != 1<<20 {
			t.Errorf("disk of %d bytes, %v", len(b), err)
		}
		for _, name := range []string{"config.json", "nvram.bin"} {
			if _, err := os.Stat(filepath.Join(image.Disk, name)); err != nil {
				t.Error(err)
			}
		}

		before, _ := os.Stat(disk)
		again, _, err := a.image(t.Context())
		if after, _ := os.Stat(disk); err != nil || again != image || !os.SameFile(before, after) {
			t.Errorf("the second time: %+v, %v", again, err)
		}
	}
}

func TestImages_TartRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
	}{
		"no variables": {func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "nvram.bin")) }, "it has no nvram.bin"},
		"odd disk":     {func(t *testing.T, dir string) { os.Truncate(filepath.Join(dir, "disk.img"), 513) }, "a disk is a multiple of 512"},
		"amd64": {func(t *testing.T, dir string) {
			writeFile(t, filepath.Join(dir, "config.json"), `{"os":"linux","arch":"amd64"}`)
		}, "Tart needs linux and arm64"},
		"no disk": {func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "disk.img")) }, "holds no rockpool-root-*"},
	} {
		a := tartApp(t, Standalone())
		a.Settings.Image = writeTart(t, "one")
		c.spoil(t, a.Settings.Image)
		if _, _, err := a.image(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
		if left, _ := filepath.Glob(filepath.Join(a.Settings.StateDir, "images", "*", "*")); len(left) > 0 {
			t.Errorf("%s: left behind %q", name, left)
		}
	}

	a := tartApp(t, Standalone())
	a.Settings.Image = builtImage(t, "one ") // for QEMU
	if _, _, err := a.image(t.Context()); err == nil || !strings.Contains(err.Error(), "has no tart") {
		t.Errorf("an image for QEMU: %v", err)
	}
}

// shelf is a registry that has one artifact.
type shelf struct {
	layout  string // of the artifact
	digest  string
	fetched int
	fail    error // of the next fetch, after its blobs are there
}

func (s *shelf) Digest(context.Context, Remote) (string, error) { return s.digest, nil }

func (s *shelf) Fetch(_ context.Context, from Remote, digest, dir string, accept func() error) error {
	if digest != s.digest {
		return fmt.Errorf("%s has no %s", from.Reference, digest)
	}
	s.fetched++
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.CopyFS(dir, os.DirFS(s.layout)); err != nil {
		return err
	}
	return errors.Join(accept(), s.fail)
}

func newShelf(t *testing.T, content string) *shelf {
	t.Helper()
	s := &shelf{layout: filepath.Join(t.TempDir(), "oci"), digest: "sha256:" + digestOf(content)}
	if err := tartImage(t, content).WriteLayout(t.Context(), s.layout); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestImages_Reference takes a Tart artifact from a registry once.
func TestImages_Reference(t *testing.T) {
	from := newShelf(t, "one")
	program := Standalone()
	program.Artifacts = from
	a := tartApp(t, program)
	a.Settings.Image = "ghcr.io/rockpool/root:trixie"
	key := digestOf("one")
	layout := filepath.Join(a.Settings.StateDir, "images", key+layoutSuffix)

	// Cut off: what is there stays, and nothing has the image's name.
	from.fail = errors.New("cut off")
	if _, _, err := a.image(t.Context()); !errors.Is(err, from.fail) {
		t.Fatalf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(layout, "index.json")); err != nil {
		t.Errorf("what was fetched is gone: %v", err)
	}
	from.fail = nil

	image, architecture, err := a.image(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(a.Settings.StateDir, "images", key, tartName); image.Disk != want || architecture != "arm64" {
		t.Errorf("image %+v of %s, want its disk in %s", image, architecture, want)
	}
	if err := tartcheck.Directory(image.Disk); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(image.Disk, "disk.img")); err != nil || !strings.HasPrefix(string(b), "one") || digestOf(string(b)) != image.SHA256 {
		t.Errorf("disk of %d bytes, %v", len(b), err)
	}
	if _, err := os.Stat(layout); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was fetched is still there: %v", err)
	}

	before := from.fetched
	again, _, err := a.image(t.Context())
	if err != nil || again != image || from.fetched != before {
		t.Errorf("the second time: %+v, %v, fetched %d times more", again, err, from.fetched-before)
	}
	if given, err := a.given(t.Context()); err != nil || !given.sameImage(image) {
		t.Errorf("it is not known as the instance's: %v", err)
	}
}

// TestImages_ReferenceDamaged: what is wrong is named, and not gone on from.
func TestImages_ReferenceDamaged(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, layout string)
		want  error
	}{
		"a flipped bit": {func(t *testing.T, layout string) {
			blobs, _ := filepath.Glob(filepath.Join(layout, "blobs", "sha256", "*"))
			for _, blob := range blobs {
				b, err := os.ReadFile(blob)
				if err == nil && strings.HasPrefix(string(b), "bv4") {
					b[len(b)/2] ^= 1
					writeFile(t, blob, string(b))
				}
			}
		}, tartcheck.ErrDigest},
		"another kind of artifact": {func(t *testing.T, layout string) {
			index, err := os.ReadFile(filepath.Join(layout, "index.json"))
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(layout, "index.json"), strings.Replace(string(index), "image.manifest.v1", "image.index.v1", 1))
		}, tartcheck.ErrMediaType},
	} {
		from := newShelf(t, "one")
		c.spoil(t, from.layout)
		program := Standalone()
		program.Artifacts = from
		a := tartApp(t, program)
		a.Settings.Image = "localhost:5000/root"
		if _, _, err := a.image(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
		if left, _ := filepath.Glob(filepath.Join(a.Settings.StateDir, "images", "*", "*")); len(left) > 0 {
			t.Errorf("%s: left behind %q", name, left)
		}
	}
}

// TestImages_ReferenceElsewhere: who cannot take one from a registry says so.
func TestImages_ReferenceElsewhere(t *testing.T) {
	a, _ := app(t, Standalone(), "", map[string]string{"ROCKPOOL_DRIVER": "qemu"})
	for _, c := range []struct {
		app  *App
		want string
	}{{a, "for Tart only"}, {tartApp(t, Standalone()), "only the program rockpool takes images"}} {
		c.app.Settings.Image = "ghcr.io/rockpool/root:trixie"
		if _, _, err := c.app.image(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func TestIsReference(t *testing.T) {
	for given, want := range map[string]bool{
		"ghcr.io/rockpool/root:trixie": true, "localhost/root": true, "registry:5000/root": true, "10.0.0.1/a@sha256:00": true,
		"dist": false, "dist/x.tart": false, "./ghcr.io/root": false, "/ghcr.io/root": false, "../x": false, "ghcr.io": false, "ghcr.io/": false, "": false,
	} {
		if got := isReference(given); got != want {
			t.Errorf("%q: %v", given, got)
		}
	}
}
