package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders"
)

func TestNewLayout(t *testing.T) {
	for _, arch := range builders.Architectures {
		for _, size := range []int64{builders.MinDiskSize, builders.DefaultDiskSize, 20*builders.GiB + builders.MiB, builders.MaxDiskSize} {
			s := spec(arch)
			s.DiskSize = size
			layout := NewLayout(s)
			end, ids := builders.MiB, map[string]bool{layout.GUID: true}
			for _, p := range layout.Partitions() {
				if p.Start < end || p.Start%alignment != 0 || p.Size%alignment != 0 || p.Size <= 0 {
					t.Errorf("%s, %d bytes: partition %+v overlaps or is not aligned", arch, size, p)
				}
				if ids[p.GUID] {
					t.Errorf("%s: GUID %s occurs twice", arch, p.GUID)
				}
				end, ids[p.GUID] = p.Start+p.Size, true
			}

			if gap := size - end; gap < 34*sectorSize || gap >= 2*builders.MiB {
				t.Errorf("%s: %d bytes after the root of a disk of %d", arch, gap, size)
			}
		}
	}
}

func TestWriteTables(t *testing.T) {
	dir, layout := t.TempDir(), NewLayout(spec("amd64"))
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	for _, path := range []string{first, second} {
		if err := writeTables(path, layout); err != nil {
			t.Fatal(err)
		}
	}

	if !bytes.Equal(head(t, first), head(t, second)) {
		t.Error("two partition tables of one layout differ")
	}
	f, err := os.Open(first)
	if err != nil {
		t.Fatal(err)
	}

	defer f.Close()
	if err := checkGPT(f, layout.DiskSize); err != nil {
		t.Error(err)
	}
	if err := checkLayout(f, layout); err != nil {
		t.Error(err)
	}
	if err := checkLayout(f, NewLayout(spec("arm64"))); err == nil {
		t.Error("another layout was not noticed")
	}
}

func TestCheckGPT_Damage(t *testing.T) {
	size := NewLayout(spec("amd64")).DiskSize
	cases := map[string]struct {
		offset int64
		want   string
	}{
		"primary signature": {sectorSize, "primary GPT: no GPT signature"},
		"primary header":    {sectorSize + 60, "primary GPT: header CRC"},
		"primary entries":   {2*sectorSize + 3, "primary GPT: entries' CRC"},
		"backup header":     {size - sectorSize + 60, "backup GPT: header CRC"},
		"backup entries":    {size - 33*sectorSize + 3, "backup GPT: entries' CRC"},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk")
			if err := writeTables(path, NewLayout(spec("amd64"))); err != nil {
				t.Fatal(err)
			}

			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}

			defer f.Close()
			if _, err := f.WriteAt([]byte{0xa5}, c.offset); err != nil {
				t.Fatal(err)
			}
			if err := checkGPT(f, size); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}

	t.Run("truncated", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "disk")
		if err := writeTables(path, NewLayout(spec("amd64"))); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		err = checkGPT(f, size/2)
		if err == nil || !strings.Contains(err.Error(), "primary GPT: header at sector 1") || !strings.Contains(err.Error(), "backup GPT: no GPT signature") {
			t.Errorf("error %v, want both tables' faults", err)
		}
	})
}

func FuzzReadGPT(f *testing.F) {
	path := filepath.Join(f.TempDir(), "disk")
	if err := writeTables(path, NewLayout(spec("amd64"))); err != nil {
		f.Fatal(err)
	}
	f.Add(head(f, path))
	f.Add([]byte("EFI PART"))
	f.Fuzz(func(t *testing.T, disk []byte) {
		_ = checkGPT(bytes.NewReader(disk), int64(len(disk)))
	})
}

// head is the part of a disk before its first partition.
func head(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, biosBootStart)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}
