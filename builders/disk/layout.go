package disk

import (
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/rockpool/rootvm/builders"
)

const (
	sectorSize = 512
	// alignment of every partition, in bytes. It suits any block size of the
	// host's storage and of a qcow2 cluster.
	alignment = builders.MiB

	biosBootStart = 1 * builders.MiB
	biosBootSize  = 1 * builders.MiB
	espStart      = 2 * builders.MiB
	// espSize is the least round size at which FAT32 has its minimum of 65525
	// clusters with room to spare; holes cost nothing in the file.
	espSize   = 62 * builders.MiB
	rootStart = 64 * builders.MiB
)

// growFileSystem is the attribute of the Discoverable Partitions Specification
// by which the guest's systemd grows the file system with its partition.
const growFileSystem = uint64(1) << 59

// Partition is one entry of the partition table.
type Partition struct {
	Index      int    // number of the partition, from 1
	Name       string // partition label
	Type       string // type GUID, upper case
	GUID       string // of this partition, upper case
	Start      int64  // bytes from the start of the disk
	Size       int64  // bytes
	Attributes uint64 // GPT attribute bits
}

// Layout says where everything lies on a disk. It is a function of the Spec.
type Layout struct {
	DiskSize int64  // bytes
	GUID     string // of the disk, upper case
	BIOSBoot Partition
	ESP      Partition
	Root     Partition
}

// NewLayout is the layout of the Spec's disk. The partitions have the same
// numbers and places on every architecture; where there is no BIOS, the BIOS
// boot partition stays unused (its Size is 0).
func NewLayout(spec builders.Spec) Layout {
	l := Layout{
		DiskSize: spec.DiskSize,
		GUID:     guid(spec, "disk"),
		ESP: Partition{
			Index: 2, Name: "esp", Type: string(gpt.EFISystemPartition), GUID: guid(spec, "esp"),
			Start: espStart, Size: espSize,
		},
		Root: Partition{
			Index: 3, Name: "root", Type: rootType(spec), GUID: guid(spec, "root-partition"),
			Start: rootStart, Attributes: growFileSystem,
			// The last MiB is the backup partition table's.
			Size: (spec.DiskSize-rootStart)/alignment*alignment - alignment,
		},
	}

	if spec.Architecture == "amd64" {
		l.BIOSBoot = Partition{
			Index: 1, Name: "bios-boot", Type: string(gpt.BIOSBoot), GUID: guid(spec, "bios-boot"),
			Start: biosBootStart, Size: biosBootSize,
		}
	}
	return l
}

// RootUUID is the UUID of the root's ext4 file system, by which GRUB and the
// kernel find it.
func RootUUID(spec builders.Spec) string { return spec.UUID("root") }

// rootType is the type by which systemd-repart and others recognise the root
// (Discoverable Partitions Specification).
func rootType(spec builders.Spec) string {
	if spec.Architecture == "arm64" {
		return string(gpt.LinuxRootArm64)
	}
	return string(gpt.LinuxRootX86_64)
}

func guid(spec builders.Spec, role string) string { return strings.ToUpper(spec.UUID(role)) }

// Partitions are the used partitions in the order of their numbers.
func (l Layout) Partitions() []Partition {
	if l.BIOSBoot.Size == 0 {
		return []Partition{l.ESP, l.Root}
	}
	return []Partition{l.BIOSBoot, l.ESP, l.Root}
}

// table is the layout as a partition table that can be written.
func (l Layout) table() *gpt.Table {
	t := &gpt.Table{
		LogicalSectorSize: sectorSize, PhysicalSectorSize: sectorSize,
		ProtectiveMBR: true, GUID: l.GUID,
	}
	for _, p := range l.Partitions() {
		t.Partitions = append(t.Partitions, &gpt.Partition{
			Index: p.Index, Name: p.Name, Type: gpt.Type(p.Type), GUID: p.GUID, Attributes: p.Attributes,
			Start: uint64(p.Start / sectorSize), End: uint64((p.Start+p.Size)/sectorSize) - 1, Size: uint64(p.Size),
		})
	}
	return t
}
