package contents

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

const sectorSize = 512

// Of lists what a sound disk holds. It fails when the disk has bytes other than
// zero that it can say nothing of.
func Of(ctx context.Context, disk Disk) (*List, error) {
	m := &maker{disk: disk, list: List{DiskSize: disk.Size()}}
	if err := m.table(); err != nil {
		return nil, fmt.Errorf("list contents: partition table: %w", err)
	}
	for _, p := range m.partitions {
		if err := m.partition(p); err != nil {
			return nil, fmt.Errorf("list contents: partition %s: %w", p.Name, err)
		}
	}
	if err := m.digest(ctx); err != nil {
		return nil, fmt.Errorf("list contents: %w", err)
	}
	if err := m.list.checkRest(ctx, disk); err != nil {
		return nil, fmt.Errorf("list contents: %w", err)
	}
	return &m.list, nil
}

// maker is a list under way.
type maker struct {
	disk       Disk
	list       List
	partitions []typedPartition
}

type typedPartition struct {
	Partition
	kind gpt.Type
}

// structure adds a structure at one place.
func (m *maker) structure(part, name string, start, size int64) {
	m.list.Regions = append(m.list.Regions, Region{Part: part, Kind: Structure, Name: name, At: []Extent{{start, size}}, Size: size})
}

// fields adds a structure whose fields are known.
func (m *maker) fields(part, name, layout string, start, size int64) {
	m.structure(part, name, start, size)
	m.list.Regions[len(m.list.Regions)-1].Fields = layout
}

// read reads from the disk.
func (m *maker) read(start, size int64) ([]byte, error) {
	b := make([]byte, size)
	if n, err := m.disk.ReadAt(b, start); int64(n) < size {
		return nil, fmt.Errorf("read %d bytes at %d: %w", size, start, err)
	}
	return b, nil
}

// table adds the partition table and its backup.
func (m *maker) table() error {
	sectors := m.disk.Size() / sectorSize
	header, err := m.read(sectorSize, sectorSize)
	if err != nil {
		return err
	}
	if string(header[:8]) != "EFI PART" {
		return errors.New("it is no GPT")
	}
	le := binary.LittleEndian
	count, entrySize := int64(le.Uint32(header[80:])), int64(le.Uint32(header[84:]))
	if count != 128 || entrySize != 128 {
		return fmt.Errorf("%d entries of %d bytes", count, entrySize)
	}
	entries, err := m.read(2*sectorSize, count*entrySize)
	if err != nil {
		return err
	}

	m.structure(Table, "boot code of GRUB", 0, 440)
	m.fields(Table, "protective MBR", "mbr", 440, sectorSize-440)
	m.fields(Table, "primary GPT header", "gpt", sectorSize, sectorSize)
	m.entries("primary", entries, 2*sectorSize)
	m.entries("backup", entries, (sectors-33)*sectorSize)
	m.fields(Table, "backup GPT header", "gpt", (sectors-1)*sectorSize, sectorSize)

	for at := 0; at < len(entries); at += 128 {
		e := entries[at:][:128]
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		first, last := int64(le.Uint64(e[32:])), int64(le.Uint64(e[40:]))
		p := Partition{Name: partitionName(e[56:]), Start: first * sectorSize, Size: (last - first + 1) * sectorSize}
		m.list.Partitions = append(m.list.Partitions, p)
		m.partitions = append(m.partitions, typedPartition{p, gpt.Type(guid(e[:16]))})
	}
	return nil
}

// entries adds the array of partition entries at start.
func (m *maker) entries(which string, array []byte, start int64) {
	used := 0
	for at := 0; at < len(array); at += 128 {
		if !bytes.Equal(array[at:][:16], make([]byte, 16)) {
			used = at/128 + 1
		}
	}
	for i := range used {
		m.fields(Table, fmt.Sprintf("%s GPT entry of partition %d", which, i+1), "gpt entry", start+int64(i)*128, 128)
	}
	m.structure(Table, "unused entries of the "+which+" GPT", start+int64(used)*128, int64(len(array)-used*128))
}

// partitionName reads a label in UTF-16.
func partitionName(b []byte) string {
	var name []rune
	for ; len(b) >= 2; b = b[2:] {
		c := binary.LittleEndian.Uint16(b)
		if c == 0 {
			break
		}
		name = append(name, rune(c))
	}
	return string(name)
}

// guid is the text of a GUID.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08X-%04X-%04X-%X-%X", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

func (m *maker) partition(p typedPartition) error {
	switch p.kind {
	case gpt.BIOSBoot:
		return m.core(p.Partition)
	case gpt.EFISystemPartition:
		return (&fat{maker: m, part: p.Partition}).list()
	case gpt.LinuxRootX86_64, gpt.LinuxRootArm64:
		return (&ext4{maker: m, part: p.Partition}).list()
	}
	return fmt.Errorf("type %s is none of ours", p.kind)
}

// core adds GRUB's image in a BIOS boot partition, whose first sector says how
// many follow.
func (m *maker) core(p Partition) error {
	sector, err := m.read(p.Start, sectorSize)
	if err != nil {
		return err
	}
	sectors := 1 + int64(binary.LittleEndian.Uint16(sector[0x1f4+8:]))
	m.structure(p.Name, "core image of GRUB", p.Start, sectors*sectorSize)
	return nil
}

// digest hashes every region, and keeps the bytes of those whose fields are
// known.
func (m *maker) digest(ctx context.Context) error {
	return eachRegion(ctx, m.list.Regions, func(r *Region, buffer []byte) error {
		if r.Fields != "" {
			b, err := m.read(r.At[0].Start, r.Size)
			r.Bytes = hex.EncodeToString(b)
			return err
		}
		if len(r.At) == 0 && r.Kind != File {
			return nil
		}
		if r.Kind == Structure {
			at, err := r.firstData(m.disk, buffer)
			if r.Zero = at < 0; err != nil || r.Zero {
				return err
			}
		}
		sum, tail, err := r.hash(m.disk, buffer)
		if err == nil && tail {
			err = errors.New("bytes after its end are not zero")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r, err)
		}
		r.SHA256 = sum
		return nil
	})
}

// hash reads the region's content. tail says that its last extent goes on, and
// not with zeros.
func (r *Region) hash(disk io.ReaderAt, buffer []byte) (sum string, tail bool, err error) {
	h, left := sha256.New(), r.Size
	for _, e := range r.At {
		for done := int64(0); done < e.Length; {
			b := buffer[:min(int64(len(buffer)), e.Length-done)]
			if e.Start < 0 {
				clear(b)
			} else if n, err := disk.ReadAt(b, e.Start+done); n < len(b) {
				return "", false, fmt.Errorf("at byte %d: %w", e.Start+done+int64(n), err)
			}
			done += int64(len(b))
			content := b[:min(left, int64(len(b)))]
			h.Write(content)
			left -= int64(len(content))
			tail = tail || !isZero(b[len(content):])
		}
	}
	return hex.EncodeToString(h.Sum(nil)), tail, nil
}

func isZero(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.NativeEndian.Uint64(b) != 0 {
			return false
		}
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// eachRegion calls do for every region, in order of their places, on all
// processors. It gives each call a buffer of its own.
func eachRegion(ctx context.Context, regions []Region, do func(r *Region, buffer []byte) error) error {
	order := make([]*Region, len(regions))
	for i := range regions {
		order[i] = &regions[i]
	}
	slices.SortStableFunc(order, func(a, b *Region) int { return int(min(1, max(-1, a.start()-b.start()))) })

	var next sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			buffer := make([]byte, 1<<20)
			for {
				next.Lock()
				part := order[:min(32, len(order))]
				order = order[len(part):]
				next.Unlock()
				if len(part) == 0 {
					return nil
				}
				for _, r := range part {
					if err := do(r, buffer); err != nil {
						return err
					}
				}
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
			}
		})
	}
	return group.Wait()
}

// start is where the region begins, in Part QCOW2 and in what has no place
// before all others.
func (r *Region) start() int64 {
	if len(r.At) == 0 || r.Part == QCOW2 {
		return -1
	}
	return r.At[0].Start
}
