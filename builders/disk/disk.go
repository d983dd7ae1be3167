// Package disk turns a root file system (a tar archive) into a bootable disk:
// GPT with a BIOS boot partition, an EFI system partition and an ext4 root,
// GRUB for BIOS and UEFI, raw or qcow2. It needs no root, loop device, mount or
// running guest, and the same input gives the same bytes.
//
// The programs that shape bytes (mke2fs, e2fsck, grub-mkimage, qemu-img) come
// from a pinned tree, the [Toolbox], never from the host.
//
// It owns no state: every function writes the files it was asked for, each
// first under a temporary name beside the target, and renames it when complete.
// It imports the builders package and the contract, package guest.
package disk

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/rockpool/rootvm/builders"
)

// Toolbox runs programs of a pinned tools tree.
//
// Command is like [exec.CommandContext] for the program called name: cancelling
// ctx kills it. Path is where the file rel of the tree is on the host, such as
// Path("usr/lib/grub/i386-pc/boot.img").
type Toolbox interface {
	Command(ctx context.Context, name string, args ...string) *exec.Cmd
	Path(rel string) string
}

// Build writes a raw, sparse disk of spec.DiskSize bytes to out, with the root
// file system of rootfsTar, and returns where everything lies in it. The tar
// may not contain times after the epoch of the Spec if the result is to depend
// on the input only.
//
// On error, and when ctx is cancelled, out is as it was before.
func Build(ctx context.Context, tb Toolbox, spec builders.Spec, rootfsTar, out string) (Layout, error) {
	layout := NewLayout(spec)
	if _, err := os.Stat(rootfsTar); err != nil {
		return layout, fmt.Errorf("build disk: root file system: %w", err)
	}
	err := replace(out, func(tmp string) error {
		if err := writeTables(tmp, layout); err != nil {
			return err
		}
		if err := installGRUB(ctx, tb, spec, layout, tmp); err != nil {
			return err
		}
		return makeRoot(ctx, tb, spec, layout.Root, rootfsTar, tmp)
	})
	if err != nil {
		return layout, fmt.Errorf("build disk: %w", cancelled(ctx, err))
	}
	return layout, nil
}

// writeTables makes the disk, of an empty file or none: all holes, except the partition
// tables.
func writeTables(path string, layout Layout) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(layout.DiskSize); err != nil {
		return err
	}
	if err := layout.table().Write(f, layout.DiskSize); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	return f.Close()
}

// installGRUB puts GRUB where each of the architecture's firmwares looks.
func installGRUB(ctx context.Context, tb Toolbox, spec builders.Spec, layout Layout, disk string) error {
	for _, p := range platforms(spec) {
		image, err := makeCore(ctx, tb, spec, p, disk)
		if err != nil {
			return err
		}
		if p.removable != "" {
			err = writeESP(ctx, tb, spec, layout.ESP, p.removable, image, disk)
		} else {
			err = writeBIOS(tb, layout.BIOSBoot, image, disk)
		}
		if err != nil {
			return fmt.Errorf("install GRUB for %s: %w", p.name, err)
		}
	}
	return nil
}

// writeBIOS installs the two stages by which a PC BIOS starts GRUB.
func writeBIOS(tb Toolbox, part Partition, core []byte, disk string) error {
	boot, err := os.ReadFile(tb.Path("usr/lib/grub/i386-pc/boot.img"))
	if err != nil {
		return err
	}
	code, err := bootCode(boot, uint64(part.Start/sectorSize))
	if err != nil {
		return err
	}
	if err := patchCore(core, uint64(part.Start/sectorSize), part.Size); err != nil {
		return err
	}

	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(code, 0); err != nil {
		return err
	}
	if _, err := f.WriteAt(core, part.Start); err != nil {
		return err
	}
	return f.Close()
}
