package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/vm"
)

// builtImage writes an image as a build leaves it, and returns its directory.
func builtImage(t *testing.T, content string) string {
	t.Helper()
	dir := t.TempDir()
	m := builders.Manifest{Name: "rockpool-root-trixie-amd64", Suite: "trixie", Architecture: "amd64", CommandLine: "root=UUID=u"}
	for format, file := range map[string]string{"qcow2": "disk.qcow2", "kernel": "vmlinuz", "initrd": "initrd.img", "raw": "disk.raw"} {
		path := filepath.Join(dir, file)
		writeFile(t, path, content+format)
		artifact, err := builders.Describe(path, format)
		if err != nil {
			t.Fatal(err)
		}
		m.Artifacts = append(m.Artifacts, artifact)
	}
	if err := m.Write(filepath.Join(dir, m.Name+manifestSuffix)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func digestOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func TestImages_CopiedOnce(t *testing.T) {
	a, out := app(t, Standalone(), "", nil)
	a.Settings.Image = builtImage(t, "one ")
	image, architecture, err := a.image(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	digest := digestOf("one qcow2")
	store := filepath.Join(a.Settings.StateDir, "images", digest)
	want := vm.Image{
		Disk: filepath.Join(store, "disk.qcow2"), Kernel: filepath.Join(store, "vmlinuz"), Initrd: filepath.Join(store, "initrd.img"),
		SHA256: digest, CommandLine: "root=UUID=u", Suite: "trixie", Renew: "rockpool up --image DIR",
	}
	if image != want || architecture != "amd64" {
		t.Errorf("image %+v of %s, want %+v", image, architecture, want)
	}
	if b, err := os.ReadFile(image.Disk); err != nil || string(b) != "one qcow2" {
		t.Errorf("disk %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(store, "disk.raw")); err == nil {
		t.Error("what no instance needs was copied, too")
	}

	before, _ := os.Stat(image.Disk)
	again, _, err := a.image(t.Context())
	after, _ := os.Stat(again.Disk)
	if err != nil || again != image || !os.SameFile(before, after) {
		t.Errorf("the second time: %+v, %v\n%s", again, err, out)
	}
}

// TestImages_MadeWhole copies again what an interruption left half done.
func TestImages_MadeWhole(t *testing.T) {
	a, _ := app(t, Standalone(), "", nil)
	a.Settings.Image = builtImage(t, "one ")
	store := filepath.Join(a.Settings.StateDir, "images", digestOf("one qcow2"))
	writeFile(t, filepath.Join(store, "disk.qcow2"), "one")
	writeFile(t, filepath.Join(store+".incoming", "vmlinuz"), "half")
	image, _, err := a.image(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	for path, want := range map[string]string{image.Disk: "one qcow2", image.Kernel: "one kernel", image.Initrd: "one initrd"} {
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v", path, b, err)
		}
	}

	if err := os.Truncate(image.Kernel, 1); err != nil {
		t.Fatal(err)
	}
	if image, _, err = a.image(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(image.Kernel); string(b) != "one kernel" {
		t.Errorf("the truncated kernel was not copied again: %q", b)
	}
}

func TestImages_Refused(t *testing.T) {
	change := func(change func(m *builders.Manifest)) func(t *testing.T, dir string) string {
		return func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "rockpool-root-trixie-amd64"+manifestSuffix)
			m, err := builders.ReadManifest(path)
			if err == nil {
				change(&m)
				err = m.Write(path)
			}
			if err != nil {
				t.Fatal(err)
			}
			return dir
		}
	}

	for name, c := range map[string]struct {
		given func(t *testing.T, dir string) string
		want  string
	}{
		"no directory":   {func(_ *testing.T, dir string) string { return dir + "/none" }, "give the directory of an image"},
		"no manifest":    {func(t *testing.T, _ string) string { return t.TempDir() }, "holds no rockpool-root-*.manifest.json"},
		"no manifest ii": {func(_ *testing.T, dir string) string { return dir + "/vmlinuz" }, "build the image again"},
		"two": {func(t *testing.T, dir string) string {
			writeFile(t, filepath.Join(dir, "rockpool-root-other"+manifestSuffix), "{}")
			return dir
		}, "holds 2 images: give the manifest of one"},
		"flipped byte": {func(t *testing.T, dir string) string {
			writeFile(t, filepath.Join(dir, "vmlinuz"), "ONE kernel")
			return dir
		}, "vmlinuz is corrupt"},
		"missing file": {func(t *testing.T, dir string) string {
			if err := os.Remove(filepath.Join(dir, "initrd.img")); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "initrd.img: no such file"},
		"no disk": {change(func(m *builders.Manifest) { m.Artifacts = nil }), "has no"},
		"elsewhere": {change(func(m *builders.Manifest) {
			for i := range m.Artifacts {
				m.Artifacts[i].File = "../" + m.Artifacts[i].File
			}
		}), "not beside it"},
		"digest": {change(func(m *builders.Manifest) {
			for i := range m.Artifacts {
				m.Artifacts[i].SHA256 = "../../x"
			}
		}), "where the disk's SHA-256 should be"},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := app(t, Standalone(), "", nil)
			a.Settings.Image = c.given(t, builtImage(t, "one "))
			if _, _, err := a.image(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			left, _ := filepath.Glob(filepath.Join(a.Settings.StateDir, "images", "*", "*"))
			if len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestImages_OfManifest(t *testing.T) {
	a, _ := app(t, Standalone(), "", nil)
	a.Settings.Image = filepath.Join(builtImage(t, "one "), "rockpool-root-trixie-amd64"+manifestSuffix)
	if image, _, err := a.image(t.Context()); err != nil || image.SHA256 != digestOf("one qcow2") {
		t.Errorf("image %+v, %v", image, err)
	}
}

// TestImages_Remembered starts from the image that the instance had.
func TestImages_Remembered(t *testing.T) {
	a, _ := app(t, Standalone(), "", nil)
	if _, _, err := a.image(t.Context()); !errors.Is(err, ErrNoImage) || !strings.Contains(err.Error(), "rockpool up --image DIR") {
		t.Errorf("without an instance: %v", err)
	}
	disk := filepath.Join(t.TempDir(), "disk.qcow2")
	stoppedInstance(t, a, fmt.Sprintf(`{"name":"rockpool-root","architecture":"arm64","image":{"disk":%q,"sha256":"d"}}`, disk))
	if _, _, err := a.image(t.Context()); !errors.Is(err, ErrNoImage) || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("without its disk: %v", err)
	}
	writeFile(t, disk, "x")
	if image, architecture, err := a.image(t.Context()); err != nil || image.Disk != disk || architecture != "arm64" {
		t.Errorf("image %+v of %s, %v", image, architecture, err)
	}
}

// TestImages_Pruned removes what no instance is made from, but not what was
// copied a moment ago.
func TestImages_Pruned(t *testing.T) {
	a, _ := app(t, Standalone(), "", nil)
	stored := map[string]string{}
	for _, name := range []string{"used", "unused", "fresh"} {
		a.Settings.Image = builtImage(t, name+" ")
		image, _, err := a.image(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		stored[name] = filepath.Dir(image.Disk)
	}

	old := time.Now().Add(-2 * pruneAge)
	for _, name := range []string{"used", "unused"} {
		if err := os.Chtimes(stored[name], old, old); err != nil {
			t.Fatal(err)
		}
	}

	link := filepath.Join(t.TempDir(), "state") // the instance was made through it
	if err := os.Symlink(a.Settings.StateDir, link); err != nil {
		t.Fatal(err)
	}
	used := filepath.Join(link, "images", filepath.Base(stored["used"]), "disk.qcow2")
	stoppedInstance(t, a, fmt.Sprintf(`{"name":"rockpool-root","image":{"disk":%q}}`, used))
	a.Settings.Image = builtImage(t, "another ")
	if _, _, err := a.image(t.Context()); err != nil {
		t.Fatal(err)
	}

	for name, want := range map[string]bool{"used": true, "unused": false, "fresh": true} {
		if _, err := os.Stat(stored[name]); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestImages_OfIncompleteManifest(t *testing.T) {
	_, err := imageFiles{dir: "dist"}.asImage("qcow2", "go tool mage rootvm:build")
	if err == nil || !strings.Contains(err.Error(), "rootvm:build") {
		t.Errorf("error = %v", err)
	}
}
