//go:build e2e

package e2e

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders/contents"
)

// TestBuild_Verify checks the real image offline, whole and with single flipped
// bytes, which are named; then it is built again from nothing and compared.
func TestBuild_Verify(t *testing.T) {
	takesLong(t)
	primary.mage(t, "rootvm:build")
	m := readManifest(t, "trixie")
	manifest := filepath.Join(checkout, "dist", m.Name+".manifest.json")
	if out := primary.mage(t, "rootvm:verify", manifest); !strings.Contains(out, "is what its manifest says") {
		t.Errorf("said %q", out)
	}

	list, err := contents.Read(filepath.Join(checkout, "dist", m.Name+contents.Suffix))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	qcow2 := filepath.Join(dir, m.Name+".qcow2")
	if out, err := exec.Command("cp", "--reflink=auto", filepath.Join(checkout, "dist", m.Name+".qcow2"), qcow2).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	// What the qcow2 holds is the disk that the list was made of.
	faults, err := list.CompareQCOW2(t.Context(), qcow2)
	if err != nil || len(faults) > 0 {
		t.Errorf("the qcow2 is not its list's: %v, %v", faults, err)
	}

	for _, c := range []struct {
		at   int64
		want string
	}{
		{23, "qcow2: header: cluster_bits is 0x50 instead of 0x10"},
		{clusterOf(t, qcow2, list, "/usr/bin/podman"), "partition root: file /usr/bin/podman"},
		{clusterOf(t, qcow2, list, "/EFI/BOOT/BOOTX64.EFI"), "partition esp: file /EFI/BOOT/BOOTX64.EFI"},
		{clusterOf(t, qcow2, list, "inode table of group 0"), "partition root: inode table of group 0"},
		{clusterOf(t, qcow2, list, "primary GPT header"), "partition table: "},
	} {
		flip(t, qcow2, c.at)
		primary.fails(t, []string{c.want, "is not what its manifest says"}, "rootvm:verify", "--manifest", manifest, qcow2)
		flip(t, qcow2, c.at)
	}

	if out := primary.mage(t, "rootvm:verify"); !strings.Contains(out, "nothing came from a store") || !strings.Contains(out, "byte for byte") {
		t.Errorf("said %q", out)
	}
}

// clusterOf is a place in the compressed cluster of the qcow2 that holds the
// middle of a region.
func clusterOf(t *testing.T, qcow2 string, list *contents.List, name string) int64 {
	t.Helper()
	f, err := os.Open(qcow2)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entry := func(at int64) uint64 {
		b := make([]byte, 8)
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		return binary.BigEndian.Uint64(b)
	}
	for _, r := range list.Regions {
		if r.Name != name {
			continue
		}
		cluster := (r.At[0].Start + r.At[0].Length/2) >> 16
		table := entry(int64(entry(40)) + cluster/8192*8)
		descriptor := entry(int64(table&0x00fffffffffffe00) + cluster%8192*8)
		if descriptor&(1<<62) == 0 {
			t.Fatalf("the cluster of %s is not compressed", name)
		}
		return int64(descriptor&(1<<54-1)) + 40 // behind the frame's header
	}
	t.Fatalf("the list has no %s", name)
	return 0
}

// flip changes a byte of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}
