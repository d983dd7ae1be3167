package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// gptHeader is the part of a GPT header (UEFI specification 2.10, 5.3.2) that
// tells where everything is.
type gptHeader struct {
	current, other   uint64 // sectors of this header and of its twin
	guid             [16]byte
	entries          uint64 // first sector of the entry array
	count, entrySize uint32
	entriesCRC       uint32
}

const (
	gptHeaderSize = 92
	maxGPTEntries = 1 << 20 // bytes; more is not a table of ours
)

// parseGPTHeader checks one header sector by itself.
func parseGPTHeader(sector []byte) (gptHeader, error) {
	var h gptHeader
	if len(sector) < gptHeaderSize || !bytes.Equal(sector[:8], []byte("EFI PART")) {
		return h, errors.New("no GPT signature")
	}

	le := binary.LittleEndian
	if size := le.Uint32(sector[12:]); size != gptHeaderSize {
		return h, fmt.Errorf("header of %d bytes instead of %d", size, gptHeaderSize)
	}

	zeroed := bytes.Clone(sector[:gptHeaderSize])
	clear(zeroed[16:20])
	if want, got := le.Uint32(sector[16:]), crc32.ChecksumIEEE(zeroed); want != got {
		return h, fmt.Errorf("header CRC is %08x, its content's is %08x", want, got)
	}

	h = gptHeader{
		current: le.Uint64(sector[24:]), other: le.Uint64(sector[32:]),
		guid:    [16]byte(sector[56:72]),
		entries: le.Uint64(sector[72:]), count: le.Uint32(sector[80:]), entrySize: le.Uint32(sector[84:]),
		entriesCRC: le.Uint32(sector[88:]),
	}
	return h, nil
}

// checkGPT reports every fault of a disk's two partition tables.
func checkGPT(disk io.ReaderAt, size int64) error {
	last := uint64(size/sectorSize) - 1
	primary, array1, err1 := readGPT(disk, 1, last)
	backup, array2, err2 := readGPT(disk, last, 1)
	var faults []error
	if err1 != nil {
		faults = append(faults, fmt.Errorf("primary GPT: %w", err1))
	}
	if err2 != nil {
		faults = append(faults, fmt.Errorf("backup GPT: %w", err2))
	}
	if err1 == nil && err2 == nil && (primary.guid != backup.guid || !bytes.Equal(array1, array2)) {
		faults = append(faults, errors.New("primary and backup GPT differ"))
	}
	return errors.Join(faults...)
}

// readGPT reads and checks the table whose header is at sector own.
func readGPT(disk io.ReaderAt, own, other uint64) (gptHeader, []byte, error) {
	sector := make([]byte, sectorSize)
	if _, err := disk.ReadAt(sector, int64(own)*sectorSize); err != nil {
		return gptHeader{}, nil, err
	}
	h, err := parseGPTHeader(sector)
	if err != nil {
		return h, nil, err
	}
	if h.current != own || h.other != other {
		return h, nil, fmt.Errorf("header at sector %d says it is at %d and its twin at %d instead of %d", own, h.current, h.other, other)
	}

	size := uint64(h.count) * uint64(h.entrySize)
	if size > maxGPTEntries || h.entries > max(own, other) {
		return h, nil, fmt.Errorf("entry array of %d bytes at sector %d is out of range", size, h.entries)
	}
	array := make([]byte, size)
	if _, err := disk.ReadAt(array, int64(h.entries)*sectorSize); err != nil {
		return h, nil, err
	}
	if got := crc32.ChecksumIEEE(array); got != h.entriesCRC {
		return h, nil, fmt.Errorf("entries' CRC is %08x, their content's is %08x", h.entriesCRC, got)
	}
	return h, array, nil
}

// checkLayout compares the partition table with the Spec's.
func checkLayout(disk fs.File, want Layout) error {
	table, err := gpt.Read(file.New(disk, true), sectorSize, sectorSize)
	if err != nil {
		return fmt.Errorf("partition table: %w", err)
	}
	var faults []error
	if !table.ProtectiveMBR {
		faults = append(faults, errors.New("partition table: no protective MBR"))
	}
	if table.GUID != want.GUID {
		faults = append(faults, fmt.Errorf("disk GUID is %s instead of %s", table.GUID, want.GUID))
	}

	got := map[int]Partition{}
	for _, p := range table.Partitions {
		got[p.Index] = Partition{
			Index: p.Index, Name: p.Name, Type: string(p.Type), GUID: p.GUID, Attributes: p.Attributes,
			Start: int64(p.Start) * sectorSize, Size: int64(p.End-p.Start+1) * sectorSize,
		}
	}

	for _, p := range want.Partitions() {
		if got[p.Index] != p {
			faults = append(faults, fmt.Errorf("partition %d is %+v instead of %+v", p.Index, got[p.Index], p))
		}
	}
	if len(got) != len(want.Partitions()) {
		faults = append(faults, fmt.Errorf("%d partitions instead of %d", len(got), len(want.Partitions())))
	}
	return errors.Join(faults...)
}
