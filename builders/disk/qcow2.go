package disk

import (
	"context"
	"fmt"
)

// convertArgs are the arguments of qemu-img(1). Compressed clusters are written
// in order (no -W), so the result depends on the disk only.
func convertArgs(raw, out string) []string {
	return []string{
		"convert", "-q", "-c", "-f", "raw", "-O", "qcow2",
		"-o", "compression_type=zstd,cluster_size=" + clusterSize, raw, out,
	}
}

// clusterSize: see doc/adr/0003-rootless-disk.md for the sizes measured.
const clusterSize = "64k"

// QCOW2 writes the raw disk as a compressed qcow2 image (zstd, so QEMU 5.1 or
// later reads it). On error, and when ctx is cancelled, out is as it was before.
func QCOW2(ctx context.Context, tb Toolbox, raw, out string) error {
	err := replace(out, func(tmp string) error {
		return run(tb.Command(ctx, "qemu-img", convertArgs(raw, tmp)...), "LC_ALL=C")
	})
	if err != nil {
		return fmt.Errorf("write qcow2: %w", cancelled(ctx, err))
	}
	return nil
}
