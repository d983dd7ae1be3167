package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rockpool/rootvm/builders"
)

// KernelCommandLine is what the guest's kernel is booted with, by GRUB and by
// launchers that load the kernel themselves. The last console= is the guest's
// /dev/console; one that the machine lacks is passed over. Every line on an
// emulated serial port costs time, so the kernel is quiet but for errors.
func KernelCommandLine(spec builders.Spec) string {
	consoles := []string{"console=tty0", "console=hvc0", "console=ttyS0,115200"}
	if spec.Architecture == "arm64" {
		consoles = []string{"console=tty0", "console=ttyAMA0,115200", "console=hvc0"}
	}
	args := []string{"root=UUID=" + RootUUID(spec), "rootfstype=ext4", "rw", "quiet"}
	return strings.Join(append(args, consoles...), " ")
}

// grubConfig is embedded in every GRUB image. GRUB's rescue parser runs it, so
// it can hold plain commands only, and no menu is shown. When a command fails,
// its error is printed on the firmware's console, which stops at GRUB's prompt.
// The first disk is looked at first: a scan of all drives tries floppies too.
func grubConfig(spec builders.Spec) string {
	return fmt.Sprintf("search.fs_uuid %s root hd0,gpt%d\n", RootUUID(spec), NewLayout(spec).Root.Index) +
		"linux /vmlinuz " + KernelCommandLine(spec) + "\n" +
		"initrd /initrd.img\n" +
		"boot\n"
}

// platform is one firmware that GRUB is built for.
type platform struct {
	name      string   // GRUB's target, also its directory in usr/lib/grub
	modules   []string // what the embedded configuration needs
	removable string   // path on the ESP, for UEFI
}

// platforms are the firmwares of the Spec's architecture.
func platforms(spec builders.Spec) []platform {
	common := []string{"part_gpt", "ext2", "search_fs_uuid", "linux", "boot"}
	if spec.Architecture == "arm64" {
		return []platform{{name: "arm64-efi", modules: common, removable: "/EFI/BOOT/BOOTAA64.EFI"}}
	}
	return []platform{
		{name: "i386-pc", modules: append([]string{"biosdisk"}, common...)},
		{name: "x86_64-efi", modules: common, removable: "/EFI/BOOT/BOOTX64.EFI"},
	}
}

// mkimageArgs are the arguments of grub-mkimage(1).
func mkimageArgs(p platform, modulesDir, config, out string) []string {
	return append([]string{"-O", p.name, "-d", modulesDir, "-p", "", "-c", config, "-o", out}, p.modules...)
}

// makeCore builds GRUB for one platform, with scratch files beside the disk.
func makeCore(ctx context.Context, tb Toolbox, spec builders.Spec, p platform, disk string) ([]byte, error) {
	dir := disk + ".grub"
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	config, image := filepath.Join(dir, "grub.cfg"), filepath.Join(dir, "core.img")
	if err := os.WriteFile(config, []byte(grubConfig(spec)), 0o644); err != nil {
		return nil, err
	}
	cmd := tb.Command(ctx, "grub-mkimage", mkimageArgs(p, tb.Path("usr/lib/grub/"+p.name), config, image)...)
	if err := run(cmd, environment(tb, spec)...); err != nil {
		return nil, err
	}
	return os.ReadFile(image)
}

// Places in GRUB's boot sectors, from GRUB's include/grub/i386/pc/boot.h and
// kernel.h.
const (
	bootCodeSize       = 440  // what precedes the disk signature in an MBR
	bootKernelSector   = 0x5c // u64: where boot.img finds the core image
	bootDriveCheck     = 0x66 // two bytes of code that work around bad BIOSes
	coreBlockList      = 0x1f4
	coreFirstSegment   = 0x820 // where the second sector is loaded: 0x8200/16
	maxBlockListLength = 0xffff
)

// bootCode makes the code of the master boot record from GRUB's boot.img, for a
// core image that starts at sector coreSector.
func bootCode(bootImage []byte, coreSector uint64) ([]byte, error) {
	if len(bootImage) != sectorSize || !bytes.Equal(bootImage[510:], []byte{0x55, 0xaa}) {
		return nil, errors.New("boot.img is not a boot sector")
	}
	code := bytes.Clone(bootImage[:bootCodeSize])
	binary.LittleEndian.PutUint64(code[bootKernelSector:], coreSector)
	code[bootDriveCheck], code[bootDriveCheck+1] = 0x90, 0x90 // nop: a hard disk, as the BIOS says
	return code, nil
}

// patchCore tells the first sector of a core image, to be put at startSector
// into room bytes, where its other sectors are.
func patchCore(core []byte, startSector uint64, room int64) error {
	if int64(len(core)) > room {
		return fmt.Errorf("core image of %d bytes does not fit the BIOS boot partition of %d", len(core), room)
	}
	rest := (len(core)+sectorSize-1)/sectorSize - 1
	if rest < 1 || rest > maxBlockListLength {
		return fmt.Errorf("core image of %d bytes is not one", len(core))
	}
	binary.LittleEndian.PutUint64(core[coreBlockList:], startSector+1)
	binary.LittleEndian.PutUint16(core[coreBlockList+8:], uint16(rest))
	binary.LittleEndian.PutUint16(core[coreBlockList+10:], coreFirstSegment)
	return nil
}
