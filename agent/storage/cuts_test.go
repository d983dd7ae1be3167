package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/storage"
)

// powerCuts does something once, from a data disk that prepare has laid out, and
// keeps the disk as it is after each step: what the file systems have not written
// out by then is lost. Then check has each of those disks.
func powerCuts(t *testing.T, prepare, do func(t *testing.T, p *storage.Pool), check func(t *testing.T, p *storage.Pool)) {
	needRoot(t)
	// Copies of a disk that is written to have to be of one moment.
	dir := t.TempDir()
	run(t, "truncate", "-s", "20G", dir+"/scratch")
	run(t, "mkfs.btrfs", "-q", dir+"/scratch")
	scratch := filepath.Join(dir, "disks")
	if err := os.Mkdir(scratch, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-o", "loop", dir+"/scratch", scratch)
	t.Cleanup(func() { awaitTrue(t, "the disks to be free", func() bool { return unix.Unmount(scratch, 0) == nil }) })

	disk := filepath.Join(scratch, "disk")
	makeDisk(t, disk, 2*giga)
	t.Run("once", func(t *testing.T) {
		p, data := poolOn(t, disk, t.TempDir())
		prepare(t, p)
		run(t, "sync", "-f", data)
		steps := 0
		p.OnStep(func() {
			steps++
			clone(t, disk, fmt.Sprintf("%s.%03d", disk, steps))
		})
		do(t, p)
	})
	cuts, err := filepath.Glob(disk + ".*")
	if err != nil || len(cuts) == 0 {
		t.Fatalf("no steps: %v", err)
	}
	slices.Sort(cuts)
	if testing.Short() {
		cuts = cuts[:1]
	}
	for _, cut := range cuts {
		t.Run("cut"+filepath.Ext(cut)[1:], func(t *testing.T) {
			p, _ := poolOn(t, cut, t.TempDir())
			check(t, p)
		})
		if err := os.Remove(cut); err != nil {
			t.Fatal(err)
		}
	}
}

// clone makes a copy of a file that is of one moment.
func clone(t testing.TB, file, as string) {
	t.Helper()
	from, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(as)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
		t.Fatal(err)
	}
}

// TestPool_takeOver_cut takes over with the power cut after each step, and then
// again, to the same end.
func TestPool_takeOver_cut(t *testing.T) {
	f := files(2, giga)
	var home, layer map[string]string
	powerCuts(t, func(t *testing.T, p *storage.Pool) {
		home, layer = oldFiles(t, p.Containers, f, 2, 40*mega)
	}, func(t *testing.T, p *storage.Pool) {
		open(t, p, f)
	}, func(t *testing.T, p *storage.Pool) {
		open(t, p, f)
		closeFiles(t, p, f.ID)
		checkTakenOver(t, "after a cut", p, f, home, layer)
	})
}

// TestPool_cut makes files and images, changes and deletes them, with the power cut
// after each step. Then each is there whole, or not at all, and all can be done.
func TestPool_cut(t *testing.T) {
	kept, gone := files(1, giga), files(2, giga)
	archive := imageArchive(t)
	powerCuts(t, func(*testing.T, *storage.Pool) {}, func(t *testing.T, p *storage.Pool) {
		ctx := t.Context()
		view := open(t, p, kept)
		asRoot(1, func() { write(t, view.Home+"/mine", "mine") })
		run(t, "sync", "-f", view.Home)
		open(t, p, gone)
		closeFiles(t, p, kept.ID)
		closeFiles(t, p, gone.ID)
		for _, err := range []error{
			p.AddImage(ctx, otherImage, bytes.NewReader(archive)), p.ChangeImage(ctx, kept.ID, otherImage), p.KeepImage(ctx),
			p.ChangeImage(ctx, gone.ID, otherImage), p.Remove(ctx, gone.ID), p.RemoveImage(ctx, ownImage),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}, func(t *testing.T, p *storage.Pool) {
		ctx := t.Context()
		u, err := p.Usage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range u.Images {
			in := p.Dir + "/pool/images/" + strings.Replace(i.Digest, ":", "-", 1)
			if _, err := os.Lstat(in + "/home/admin/.profile"); err != nil {
				t.Errorf("half an image: %v", err)
			}
		}
		for _, f := range u.Files {
			view := open(t, p, agent.Files{ID: f.ID, Slot: f.Slot, Image: f.Image, Quota: giga})
			_, err := os.Lstat(view.Home + "/.profile")
			_, mineErr := os.Lstat(view.Home + "/mine")
			if err != nil || f.ID == kept.ID && f.Image == otherImage && mineErr != nil {
				t.Errorf("half the files: %v, %v", err, mineErr)
			}
			want := map[string]string{ownImage: "root:x:0:0::/root:/bin/sh\n", otherImage: "added\n"}[f.Image]
			if got := read(t, view.Root+"/etc/passwd"); got != want {
				t.Errorf("files of %s show %q", f.Image, got)
			}
			closeFiles(t, p, f.ID)
			if err := p.ChangeImage(ctx, f.ID, ownImage); err != nil {
				t.Error(err)
			}
			if layers, err := filepath.Glob(p.Dir + "/pool/files/" + f.ID + "/layer-*"); err != nil || len(layers) != 1 {
				t.Errorf("layers %q, %v", layers, err)
			}
			if err := p.Remove(ctx, f.ID); err != nil {
				t.Error(err)
			}
		}

		for _, err := range []error{p.RemoveImage(ctx, otherImage), p.RemoveImage(ctx, ownImage), p.AddImage(ctx, otherImage, bytes.NewReader(archive))} {
			if err != nil {
				t.Error(err)
			}
		}
		if left, err := os.ReadDir(p.Dir + "/pool/staging"); err != nil || len(left) != 0 {
			t.Errorf("left in staging: %v, %v", left, err)
		}
		if _, err := os.Lstat(p.Dir + "/pool.new"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a pool that is being made is left: %v", err)
		}
		open(t, p, kept)
	})
}

// TestPool_cutWhileMade has the power cut while mkfs is under way.
func TestPool_cutWhileMade(t *testing.T) {
	p, _ := newPool(t, 2*giga)
	write(t, p.Dir+"/pool.new", "half a file system")
	open(t, p, files(1, giga))
	if _, err := os.Lstat(p.Dir + "/pool.new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a pool that is being made is left: %v", err)
	}
}
