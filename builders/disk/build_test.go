package disk

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/builders"
)

// system is a small stand-in for a root file system: sealed, with files of many
// sizes, half of them random so that they do not compress.
func system(files int) []entry {
	entries := append(sealed(), entry{name: "./data/", header: dir(0o755)})
	random := rand.New(rand.NewPCG(1, 2))
	for i := range files {
		content := make([]byte, random.IntN(200<<10))
		for j := range content[:len(content)/2] {
			content[j] = byte(random.Uint32())
		}
		entries = append(entries, entry{name: fmt.Sprintf("./data/%04d", i), content: string(content)})
	}
	return append(entries,
		entry{name: "./data/Főtanúsítvány.pem", content: "a name beyond ASCII"},
		entry{name: "./data/capability", content: "x", header: tar.Header{
			Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		}},
	)
}

// unlisted is a Spec whose suite has no ownership list.
func unlisted() builders.Spec {
	s := spec("amd64")
	s.Suite = "none"
	return s
}

func TestBuild_Reproducible(t *testing.T) {
	tb, s, root := tools(t), unlisted(), archive(t, system(100)...)
	var disks, images []string
	for _, name := range []string{"first", "second"} {
		out := filepath.Join(t.TempDir(), name)
		if _, err := Build(t.Context(), tb, s, root, out+".raw"); err != nil {
			t.Fatal(err)
		}
		if err := QCOW2(t.Context(), tb, out+".raw", out+".qcow2"); err != nil {
			t.Fatal(err)
		}
		if err := Verify(t.Context(), tb, s, root, out+".raw"); err != nil {
			t.Error(err)
		}

		disks, images = append(disks, digest(t, out+".raw")), append(images, digest(t, out+".qcow2"))
		only(t, filepath.Dir(out), name+".qcow2", name+".raw")
		if name == "first" {
			time.Sleep(2100 * time.Millisecond) // FAT's clock ticks every two seconds
		}
	}

	if disks[0] != disks[1] {
		t.Error("two disks of one archive differ")
	}
	if images[0] != images[1] {
		t.Error("two qcow2 images of one disk differ")
	}
}

func TestVerify_DamagedDisk(t *testing.T) {
	tb, s, root := tools(t), unlisted(), archive(t, system(10)...)
	path := filepath.Join(t.TempDir(), "disk.raw")
	layout, err := Build(t.Context(), tb, s, root, path)
	if err != nil {
		t.Fatal(err)
	}

	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}

	defer f.Close()
	for _, offset := range []int64{
		sectorSize + 60, layout.DiskSize - sectorSize + 60, // both partition tables
		bootKernelSector, layout.BIOSBoot.Start + coreBlockList, // both stages of GRUB
		layout.ESP.Start + 11, layout.Root.Start + 1024 + 0x68, // FAT and ext4
	} {
		if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 2), offset); err != nil {
			t.Fatal(err)
		}
	}

	err = Verify(t.Context(), tb, s, root, path)
	for _, want := range []string{"primary GPT", "backup GPT", "partition table", "BIOS boot", "ESP: mtype", "root file system: e2fsck"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want …%s…", err, want)
		}
	}
}

// digest hashes what is not zero in a file, and where. It skips holes.
func digest(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}

	defer f.Close()
	h, block, zero := sha256.New(), make([]byte, 4096), make([]byte, 4096)
	for offset := int64(0); ; offset += int64(len(block)) {
		data, err := f.Seek(offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // only a hole is left
		}
		if err != nil {
			t.Fatal(err)
		}

		offset = data / int64(len(block)) * int64(len(block))
		n, err := f.ReadAt(block, offset)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if !bytes.Equal(block[:n], zero[:n]) {
			fmt.Fprintf(h, "%d %d\n%s", offset, n, block[:n])
		}
	}

	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}

	fmt.Fprintf(h, "%d\n", info.Size())
	return hex.EncodeToString(h.Sum(nil))
}

// BenchmarkDisk times the steps from archive to qcow2, for a synthetic archive
// or that of ROCKPOOL_TEST_ROOTFS.
func BenchmarkDisk(b *testing.B) {
	tb, s := tools(b), unlisted()
	root := os.Getenv("ROCKPOOL_TEST_ROOTFS")
	if root == "" {
		root = archive(b, system(2000)...)
	}

	info, err := os.Stat(root)
	if err != nil {
		b.Fatal(err)
	}

	out := filepath.Join(b.TempDir(), "disk")
	steps := []struct {
		name string
		run  func() error
	}{
		{"Build", func() error { _, err := Build(b.Context(), tb, s, root, out+".raw"); return err }},
		{"QCOW2", func() error { return QCOW2(b.Context(), tb, out+".raw", out+".qcow2") }},
		{"Verify", func() error { return verifyDisk(b.Context(), tb, s, out+".raw") }},
		{"Audit", func() error { _, err := newAudit(s.Epoch(), root); return err }},
	}

	for _, step := range steps {
		b.Run(step.name, func(b *testing.B) {
			b.SetBytes(info.Size())
			for b.Loop() {
				if err := step.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
