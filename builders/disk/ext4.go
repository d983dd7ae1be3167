package disk

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/guest"
)

// mke2fsArgs are the arguments of mke2fs(8) 1.47.2 or later, which reads the
// tar itself and writes only what differs from a hole: the disk is all holes
// when it runs, so inode tables and journal need no zeroing here or, later, by
// the guest's kernel.
func mke2fsArgs(spec builders.Spec, root Partition, rootfsTar, disk string) []string {
	extended := []string{
		"offset=" + strconv.FormatInt(root.Start, 10),
		"hash_seed=" + spec.UUID("root-hash-seed"),
		"assume_storage_prezeroed=1",
		"nodiscard",
	}
	return []string{
		"-q", "-F", "-t", "ext4",
		"-b", "4096", "-I", "256", "-i", "16384", "-m", "1", "-J", "size=64",
		"-L", guest.RootLabel, "-U", RootUUID(spec),
		"-E", strings.Join(extended, ","),
		"-d", rootfsTar, disk, strconv.FormatInt(root.Size/1024, 10) + "k",
	}
}

// makeRoot writes the root file system into its partition.
func makeRoot(ctx context.Context, tb Toolbox, spec builders.Spec, root Partition, rootfsTar, disk string) error {
	cmd := tb.Command(ctx, "mke2fs", mke2fsArgs(spec, root, rootfsTar, disk)...)
	err := run(cmd, append(environment(tb, spec), "MKE2FS_CONFIG="+tb.Path("etc/mke2fs.conf"))...)
	var failed *toolError
	if !errors.As(err, &failed) {
		return err
	}
	switch {
	case strings.Contains(failed.output, "Could not allocate"):
		return fmt.Errorf("the root file system does not fit a disk of %d MiB: raise DISK_SIZE: %w", spec.DiskSize/builders.MiB, err)
	case strings.Contains(failed.output, "you need libarchive"):
		return fmt.Errorf("the tools tree lacks libarchive13t64, by which mke2fs reads archives: add it to the lock: %w", err)
	}
	return err
}
