package disk

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func TestKernelCommandLine(t *testing.T) {
	cases := map[string]string{
		"amd64": "console=tty0 console=hvc0 console=ttyS0,115200",
		"arm64": "console=tty0 console=ttyAMA0,115200 console=hvc0",
	}
	for arch, consoles := range cases {
		s := spec(arch)
		want := "root=UUID=" + s.UUID("root") + " rootfstype=ext4 rw quiet " + consoles
		if got := KernelCommandLine(s); got != want {
			t.Errorf("%s: %q, want %q", arch, got, want)
		}
	}
}

// bootSector is a stand-in for GRUB's boot.img: other bytes everywhere.
func bootSector() []byte {
	b := bytes.Repeat([]byte{0xee}, sectorSize)
	b[510], b[511] = 0x55, 0xaa
	return b
}

func TestBootCode(t *testing.T) {
	image := bootSector()
	code, err := bootCode(image, 0x0102030405060708)
	if err != nil {
		t.Fatal(err)
	}

	want := bytes.Repeat([]byte{0xee}, 440)
	copy(want[0x5c:], []byte{8, 7, 6, 5, 4, 3, 2, 1})
	copy(want[0x66:], []byte{0x90, 0x90})
	if !bytes.Equal(code, want) {
		t.Errorf("boot code\n%s\nwant\n%s", hex.Dump(code), hex.Dump(want))
	}
	if !bytes.Equal(image, bootSector()) {
		t.Error("boot.img was changed in place")
	}

	for _, bad := range [][]byte{nil, image[:511], make([]byte, sectorSize)} {
		if _, err := bootCode(bad, 2048); err == nil {
			t.Errorf("boot.img of %d bytes was accepted", len(bad))
		}
	}
}

func TestPatchCore(t *testing.T) {
	cases := map[string]struct {
		size int
		want string // bytes 0x1f4 to 0x1ff
	}{
		"whole sectors": {4 * 512, "0108000000000000" + "0300" + "2008"},
		"a part more":   {4*512 + 1, "0108000000000000" + "0400" + "2008"},
		"real size":     {136962, "0108000000000000" + "0b01" + "2008"},
		"two sectors":   {1024, "0108000000000000" + "0100" + "2008"},
	}

	for name, c := range cases {
		core := bytes.Repeat([]byte{0xcc}, c.size)
		if err := patchCore(core, 2048, 1<<20); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := hex.EncodeToString(core[0x1f4:0x200]); got != c.want {
			t.Errorf("%s: block list %s, want %s", name, got, c.want)
		}
		copy(core[0x1f4:], bytes.Repeat([]byte{0xcc}, 12))
		if !bytes.Equal(core, bytes.Repeat([]byte{0xcc}, c.size)) {
			t.Errorf("%s: other bytes were changed", name)
		}
	}

	for _, size := range []int{0, 512, 1<<20 + 1} {
		if err := patchCore(make([]byte, size), 2048, 1<<20); err == nil {
			t.Errorf("core image of %d bytes was accepted", size)
		}
	}
}
