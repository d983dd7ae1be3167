package storage_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rockpool/rootvm/agent"
)

// BenchmarkPool_Open opens and closes files that are there.
func BenchmarkPool_Open(b *testing.B) {
	p, _ := newPool(b, 4*giga)
	f := files(1, giga)
	for b.Loop() {
		open(b, p, f)
		closeFiles(b, p, f.ID)
	}
}

// BenchmarkPool_Remove makes files and deletes them.
func BenchmarkPool_Remove(b *testing.B) {
	p, _ := newPool(b, 4*giga)
	f := files(1, giga)
	for b.Loop() {
		open(b, p, f)
		closeFiles(b, p, f.ID)
		if err := p.Remove(b.Context(), f.ID); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPool_takeOver takes over 20 000 files in 200 directories.
func BenchmarkPool_takeOver(b *testing.B) {
	p, _ := newPool(b, 8*giga)
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		f := files(n%agent.ContainerSlots, 4*giga)
		volume := p.Containers + "/storage/volumes/rockpool-" + f.ID + "-home/_data"
		makeTree(b, volume, 200, 100)
		b.StartTimer()
		if _, err := p.Open(b.Context(), f, nil); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		closeFiles(b, p, f.ID)
		if err := p.Remove(b.Context(), f.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkFiles does what programs do, on the disk as older releases had it, in the
// pool, and as a workspace sees it.
func BenchmarkFiles(b *testing.B) {
	p, data := newPool(b, 8*giga)
	view := open(b, p, files(1, 4*giga))
	for _, place := range []struct{ name, dir string }{
		{"ext4", data}, {"pool", p.Dir + "/pool"}, {"home", view.Home}, {"layer", view.Root},
	} {
		b.Run(place.name+"/tree", func(b *testing.B) {
			dir := filepath.Join(place.dir, "tree")
			for b.Loop() {
				asRoot(1, func() { makeTree(b, dir, 50, 100) })
				run(b, "sync", "-f", place.dir)
				asRoot(1, func() {
					if err := os.RemoveAll(dir); err != nil {
						b.Error(err)
					}
				})
			}
		})
		b.Run(place.name+"/sync", func(b *testing.B) {
			asRoot(1, func() {
				f, err := os.Create(filepath.Join(place.dir, "synced"))
				if err != nil {
					b.Error(err)
					return
				}
				defer f.Close()
				block := make([]byte, 4096)
				for b.Loop() {
					if _, err := f.Write(block); err != nil {
						b.Error(err)
					}
					if err := f.Sync(); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// makeTree makes files of 4 KB in directories.
func makeTree(t testing.TB, dir string, dirs, files int) {
	content := make([]byte, 4096)
	for d := range dirs {
		in := filepath.Join(dir, fmt.Sprint("dir", d))
		if err := os.MkdirAll(in, 0o755); err != nil {
			t.Error(err)
		}
		for n := range files {
			if err := os.WriteFile(filepath.Join(in, fmt.Sprint("file", n)), content, 0o644); err != nil {
				t.Error(err)
			}
		}
	}
}
