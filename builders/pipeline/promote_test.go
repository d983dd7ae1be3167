package pipeline

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders"
)

// wholeImage returns which image the manifest in dist/ names, after comparing
// each of its files with its digest.
func wholeImage(t *testing.T, p *Pipeline) string {
	t.Helper()
	m, ok := p.Manifest()
	if !ok {
		t.Fatal("dist/ holds no image")
	}
	for _, a := range m.Artifacts {
		got, err := builders.Describe(filepath.Join(p.Dist, a.File), a.Format)
		if err != nil {
			t.Fatal(err)
		}
		if got.File = a.File; got != a {
			t.Fatalf("%s is not the file of the image %s", a.File, m.InputDigest)
		}
	}
	return m.InputDigest
}

// TestPromotion_CutOff cuts a promotion off before each of its steps: dist/ holds
// the old image or the new one, the next promotion or build goes on from there
// and leaves nothing over, and an open old file is what it was.
func TestPromotion_CutOff(t *testing.T) {
	cut := errors.New("cut off")
	seen := map[string]bool{}
	for n := 0; ; n++ {
		p, _ := pipeline(t)
		if _, err := p.promote(finished(t, p, "old"), nil, origin{}); err != nil {
			t.Fatal(err)
		}
		running, err := os.Open(p.dist(".qcow2"))
		if err != nil {
			t.Fatal(err)
		}
		defer running.Close()

		out := finished(t, p, "new")
		m, err := builders.ReadManifest(filepath.Join(out, p.Spec.Name()+".manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		var steps []string
		interrupted := p.promotion()
		interrupted.before = func(step string) error {
			if steps = append(steps, step); len(steps) > n {
				return cut
			}
			return nil
		}
		err = interrupted.run(out, m)
		if err != nil && !errors.Is(err, cut) {
			t.Fatal(err)
		}
		last := steps[len(steps)-1]
		holds := wholeImage(t, p)
		seen[holds] = true
		if switched := slices.Contains(steps[:min(n, len(steps))], "switch to the new image"); switched != (holds == "new") {
			t.Errorf("cut off before %q: dist/ holds the %s image", last, holds)
		}

		// The next one settles what was begun.
		if err := p.settle(); err != nil {
			t.Fatalf("after %q: %v", last, err)
		}
		if got := wholeImage(t, p); got != holds {
			t.Errorf("settled after %q: the %s image became the %s one", last, holds, got)
		}
		settled(t, p, last)
		if _, err := p.promote(finished(t, p, "third"), nil, origin{}); err != nil {
			t.Fatal(err)
		}
		if got := wholeImage(t, p); got != "third" {
			t.Errorf("promoted after %q: dist/ holds the %s image", last, got)
		}
		settled(t, p, last)

		content := make([]byte, 16)
		if k, _ := running.ReadAt(content, 0); string(content[:k]) != "oldqcow2" {
			t.Errorf("the file that was open now reads %q", content[:k])
		}
		if err == nil {
			if n < 8 || !seen["old"] || !seen["new"] {
				t.Errorf("only %d steps, images seen %v", n, seen)
			}
			return
		}
	}
}

// settled checks that dist/ holds the files that people know and no other, and
// sums that are theirs.
func settled(t *testing.T, p *Pipeline, after string) {
	t.Helper()
	var names []string
	err := filepath.WalkDir(p.Dist, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(path, p.Dist+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	m, _ := p.Manifest()
	name := p.Spec.Name()
	want := []string{
		"SHA256SUMS", name + ".manifest.json", name + ".qcow2", name + ".tart/config.json", name + ".tart/disk.img",
		name + ".tart.oci/blobs/sha256/" + m.InputDigest, name + ".tart.oci/index.json", name + ".vmlinuz",
	}
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("after %q dist/ holds %v, want %s", after, names, want)
	}
	if unsettled(m) || !p.summed(m) {
		t.Errorf("after %q the manifest or the sums name other files", after)
	}
}

// TestPipeline_ImageSettles: who starts a VM gets the names that people know.
func TestPipeline_ImageSettles(t *testing.T) {
	p, _ := pipeline(t)
	if err := os.MkdirAll(p.CacheDir, 0o755); err != nil {
		t.Fatal(err)
	}
	out := finished(t, p, "new")
	m, err := builders.ReadManifest(filepath.Join(out, p.Spec.Name()+".manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	interrupted := p.promotion()
	interrupted.before = func(step string) error {
		if step == "name them in the manifest" {
			return errors.New("cut off")
		}
		return nil
	}
	if err := interrupted.run(out, m); err == nil {
		t.Fatal("was not cut off")
	}
	if _, err := p.Image(t.Context()); err != nil {
		t.Fatal(err)
	}
	settled(t, p, "Image")
}

// TestCopyOver_Directory: where directories cannot be moved or linked, as between
// file systems, the copy is the whole, and nothing of the old one is in it.
func TestCopyOver_Directory(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	for _, file := range []string{"from/blobs/new", "to/blobs/old", ".to0/left"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	if err := copyOver(from, to); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]bool{"from/blobs/new": true, "to/blobs/new": true, "to/blobs/old": false, ".to0": false} {
		info, err := os.Stat(filepath.Join(dir, file))
		if (err == nil) != want || want && info.Mode() != 0o600 {
			t.Errorf("%s: %v", file, err)
		}
	}
}
