package setup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The kinds of content that matter here. Any other is a name for messages.
const (
	kindBlank      = "blank"
	kindUnfinished = "unfinished" // we began to format it
	kindExt4       = "ext4"
	kindISO        = "iso9660"
	kindFAT        = "vfat"
	kindUnknown    = "unknown data"
)

// formatMark is at the start of a disk while it is formatted, so that a
// format that was cut off is told from somebody's data and begun again. The
// file system's first block takes its place last.
const formatMark = "ROCKPOOL: FORMATTING, NOTHING OF VALUE HERE YET\n"

// diskContent is what the first look at a device tells.
type diskContent struct {
	kind  string
	label string
	ext4  ext4Super
}

// ext4Super are the parts of an ext2/3/4 superblock that decide what to do
// before a mount (Documentation/filesystems/ext4/super.rst).
type ext4Super struct {
	size     int64 // of the file system, bytes
	checkFor bool  // it was not cleanly unmounted, or has recorded errors
}

// blankEnds are how much at a disk's start and end must be zero for it to
// count as blank: no known signature lies elsewhere but backup superblocks,
// and those would be met by the samples between.
const (
	blankHead    = 4 << 20
	blankTail    = 1 << 20
	blankSamples = 64
)

// examine tells what a device of the given size holds. It only reads.
func examine(r io.ReaderAt, size int64) (diskContent, error) {
	head := make([]byte, 68<<10) // covers every superblock named below
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return diskContent{}, fmt.Errorf("read disk: %w", err)
	}
	head = head[:n]
	if bytes.HasPrefix(head, []byte(formatMark)) {
		return diskContent{kind: kindUnfinished}, nil
	}
	if c, ok := fileSystem(head); ok {
		return c, nil
	}
	blank, err := isBlank(r, size)
	if err != nil {
		return diskContent{}, err
	}
	if blank {
		return diskContent{kind: kindBlank}, nil
	}
	return diskContent{kind: signature(head)}, nil
}

// fileSystem recognises those we mount.
func fileSystem(head []byte) (diskContent, bool) {
	if sb, ok := section(head, 1024, 1024); ok && binary.LittleEndian.Uint16(sb[0x38:]) == 0xef53 {
		return diskContent{kind: kindExt4, label: text(sb[0x78:0x88]), ext4: parseExt4(sb)}, true
	}
	if pvd, ok := section(head, 32<<10, 2048); ok && string(pvd[:6]) == "\x01CD001" {
		return diskContent{kind: kindISO, label: text(pvd[40:72])}, true
	}
	if boot, ok := section(head, 0, 512); ok && boot[510] == 0x55 && boot[511] == 0xaa {
		switch {
		case string(boot[82:87]) == "FAT32":
			return diskContent{kind: kindFAT, label: text(boot[71:82])}, true
		case string(boot[54:57]) == "FAT":
			return diskContent{kind: kindFAT, label: text(boot[43:54])}, true
		}
	}
	return diskContent{}, false
}

func parseExt4(sb []byte) ext4Super {
	le := binary.LittleEndian
	blocks := uint64(le.Uint32(sb[0x4:]))
	const incompat64bit, incompatRecover = 0x80, 0x4
	incompat := le.Uint32(sb[0x60:])
	if incompat&incompat64bit != 0 {
		blocks |= uint64(le.Uint32(sb[0x150:])) << 32
	}
	shift := min(le.Uint32(sb[0x18:]), 6) // 64 KiB blocks are the largest
	const stateClean, stateErrors = 0x1, 0x2
	state := le.Uint16(sb[0x3a:])
	return ext4Super{
		size:     int64(min(blocks, 1<<46)) << (10 + shift),
		checkFor: state&stateClean == 0 || state&stateErrors != 0 || incompat&incompatRecover != 0,
	}
}

// signature names foreign content, for the message that refuses it.
func signature(head []byte) string {
	for _, m := range []struct {
		offset      int
		magic, name string
	}{
		{0, "LUKS\xba\xbe", "a LUKS container"},
		{0, "XFSB", "an XFS file system"},
		{512, "EFI PART", "a GPT partition table"},
		{512, "LABELONE", "an LVM volume"},
		{3, "NTFS", "an NTFS file system"},
		{4086, "SWAPSPACE2", "swap space"},
		{0x10040, "_BHRfS_M", "a btrfs file system"},
		{510, "\x55\xaa", "a partition table"},
	} {
		if b, ok := section(head, m.offset, len(m.magic)); ok && string(b) == m.magic {
			return m.name
		}
	}
	return kindUnknown
}

func section(b []byte, offset, size int) ([]byte, bool) {
	if len(b) < offset+size {
		return nil, false
	}
	return b[offset : offset+size], true
}

func text(b []byte) string { return strings.TrimRight(string(b), " \x00") }

// isBlank reports whether both ends and samples between hold nothing but
// zeros.
func isBlank(r io.ReaderAt, size int64) (bool, error) {
	buf := make([]byte, 256<<10)
	ranges := [][2]int64{{0, min(blankHead, size)}, {max(0, size-blankTail), size}}
	for i := range int64(blankSamples) {
		at := size / blankSamples * i
		ranges = append(ranges, [2]int64{at, min(at+4096, size)})
	}
	for _, g := range ranges {
		for at := g[0]; at < g[1]; {
			n, err := r.ReadAt(buf[:min(int64(len(buf)), g[1]-at)], at)
			if err != nil && !errors.Is(err, io.EOF) || n == 0 {
				return false, fmt.Errorf("read disk at %d: %w", at, errors.Join(err, io.ErrUnexpectedEOF))
			}
			if !zero(buf[:n]) {
				return false, nil
			}
			at += int64(n)
		}
	}
	return true, nil
}

func zero(b []byte) bool {
	for len(b) >= 8 {
		if binary.NativeEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
