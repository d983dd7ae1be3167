package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/rockpool/rootvm/builders"
)

// MaxRootfs is the budget for the contents of the root file system, in bytes.
// What goes beyond it belongs on the data disk.
const MaxRootfs = 3 * builders.GiB

// Verify checks a disk of [Build] and the root file system it was made from,
// without booting it, and reports every fault at once (errors.Join), each with
// the path it is about:
//
//   - primary and backup partition table, the layout, both stages of BIOS GRUB,
//     the ESP's boot file, and the root file system by e2fsck;
//   - nothing in the root file system that must differ from one VM to the next
//     or be known to its owner only: ssh host keys, machine-id, random seeds,
//     authorized keys, passwords, private TLS keys;
//   - no package lists or package files, no time after the Spec's epoch, and no
//     more than [MaxRootfs] bytes;
//   - files of packages are as their package's checksums say;
//   - paths that are not plainly root's (set-id, capabilities, other owners) are
//     those of ownership/<suite>.txt;
//   - no group of packages is more than 5 % over its budget, that of
//     budget/<suite>-<architecture>.txt.
func Verify(ctx context.Context, tb Toolbox, spec builders.Spec, rootfsTar, raw string) error {
	err := errors.Join(verifyDisk(ctx, tb, spec, raw), verifyRootfs(spec, rootfsTar))
	if err = cancelled(ctx, err); err != nil {
		return fmt.Errorf("verify image: %w", err)
	}
	return nil
}

// VerifySize checks a finished image against a budget in bytes.
func VerifySize(image string, budget int64) error {
	info, err := os.Stat(image)
	if err != nil {
		return fmt.Errorf("verify image: %w", err)
	}
	if info.Size() > budget {
		return fmt.Errorf("verify image: %s has %d MiB, its budget is %d MiB", image, info.Size()/builders.MiB, budget/builders.MiB)
	}
	return nil
}

func verifyDisk(ctx context.Context, tb Toolbox, spec builders.Spec, raw string) error {
	layout := NewLayout(spec)
	f, err := os.Open(raw)
	if err != nil {
		return err
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != layout.DiskSize {
		return fmt.Errorf("disk has %d bytes instead of %d", info.Size(), layout.DiskSize)
	}

	faults := []error{checkGPT(f, layout.DiskSize), checkLayout(f, layout)}
	if layout.BIOSBoot.Size > 0 {
		faults = append(faults, checkBIOS(f, layout.BIOSBoot))
	}
	faults = append(faults, checkESP(ctx, tb, spec, layout.ESP, raw), checkRoot(ctx, tb, layout.Root, raw))
	return errors.Join(faults...)
}

// checkBIOS follows the pointers by which a BIOS finds GRUB's stages.
func checkBIOS(disk *os.File, part Partition) error {
	mbr, core := make([]byte, sectorSize), make([]byte, sectorSize)
	if _, err := disk.ReadAt(mbr, 0); err != nil {
		return err
	}
	if _, err := disk.ReadAt(core, part.Start); err != nil {
		return err
	}
	le := binary.LittleEndian
	if at := le.Uint64(mbr[bootKernelSector:]); at != uint64(part.Start/sectorSize) {
		return fmt.Errorf("BIOS boot: boot sector loads sector %d instead of %d", at, part.Start/sectorSize)
	}
	next, rest := le.Uint64(core[coreBlockList:]), int64(le.Uint16(core[coreBlockList+8:]))
	if next != uint64(part.Start/sectorSize)+1 || rest == 0 || (rest+1)*sectorSize > part.Size {
		return fmt.Errorf("BIOS boot: core image continues at sector %d with %d sectors", next, rest)
	}
	return nil
}

// checkESP reads the boot file of every UEFI platform back.
func checkESP(ctx context.Context, tb Toolbox, spec builders.Spec, esp Partition, raw string) error {
	image := raw + "@@" + strconv.FormatInt(esp.Start, 10)
	for _, p := range platforms(spec) {
		if p.removable == "" {
			continue
		}
		content, err := output(tb.Command(ctx, "mtype", "-i", image, "::"+p.removable), environment(tb, spec)...)
		if err != nil {
			return fmt.Errorf("ESP: %w", err)
		}
		if len(content) < sectorSize || content[:2] != "MZ" {
			return fmt.Errorf("ESP: %s is not a UEFI program", p.removable)
		}
	}
	return nil
}

// checkRoot runs e2fsck on the root's partition, which it does not change.
func checkRoot(ctx context.Context, tb Toolbox, root Partition, raw string) error {
	cmd := tb.Command(ctx, "e2fsck", "-f", "-n", raw+"?offset="+strconv.FormatInt(root.Start, 10))
	if err := run(cmd, "LC_ALL=C"); err != nil {
		return fmt.Errorf("root file system: %w", err)
	}
	return nil
}

func verifyRootfs(spec builders.Spec, rootfsTar string) error {
	a, err := newAudit(spec.Epoch(), rootfsTar)
	if err != nil {
		return fmt.Errorf("root file system: %w", err)
	}
	return errors.Join(append(a.faults, a.checkPackages(), a.checkOwnership(spec.Suite), a.checkSize(), a.checkBudget(spec))...)
}
