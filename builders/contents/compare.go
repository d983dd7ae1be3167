package contents

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Fault is a place where a disk is not as its list says.
type Fault struct {
	Place string // which file, structure or unused space
	Why   string
	start int64
}

func (f Fault) Error() string { return f.Place + ": " + f.Why }

// Compare returns every place where the disk is not as the list says, in order
// of places.
func (l *List) Compare(ctx context.Context, disk Disk) ([]Fault, error) {
	if got := disk.Size(); got != l.DiskSize {
		return []Fault{{Place: "disk", Why: fmt.Sprintf("has %d bytes instead of %d", got, l.DiskSize)}}, nil
	}

	var faults []Fault
	var lock sync.Mutex
	err := eachRegion(ctx, l.ofDisk(), func(r *Region, buffer []byte) error {
		why, at := l.compare(r, disk, buffer)
		if why != "" {
			lock.Lock()
			defer lock.Unlock()
			faults = append(faults, Fault{Place: r.String(), Why: why, start: at})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	rest, err := l.rest(ctx, disk)
	faults = append(faults, rest...)
	slices.SortStableFunc(faults, func(a, b Fault) int {
		return int(min(1, max(-1, a.start-b.start)))
	})
	return faults, err
}

// ofDisk are the regions that lie on the disk.
func (l *List) ofDisk() []Region {
	return slices.DeleteFunc(slices.Clone(l.Regions), func(r Region) bool { return r.Part == QCOW2 || len(r.At) == 0 })
}

// compare says why a region is not as it should be, and where it begins.
func (l *List) compare(r *Region, disk Disk, buffer []byte) (why string, at int64) {
	at = r.start()
	switch {
	case r.Fields != "":
		return r.compareFields(disk), at
	case r.Zero:
		return r.compareZero(disk, buffer), at
	case r.Inode != 0 && r.Kind == Structure:
		if sum, _, err := r.hash(disk, buffer); err != nil || sum != r.SHA256 {
			return l.compareInodes(r, disk, err), at
		}
		return "", at
	}

	switch sum, tail, err := r.hash(disk, buffer); {
	case err != nil:
		return "it cannot be read: " + err.Error(), at
	case sum != r.SHA256:
		return fmt.Sprintf("its content, from byte %d of the %s, has the SHA-256 %.12s… instead of %.12s…", r.At[0].Start, r.holder(), sum, r.SHA256), at
	case tail:
		return "what follows its end in its last block is not zero", at
	}
	return "", at
}

// holder is what the region's places are of.
func (r *Region) holder() string {
	if r.Part == QCOW2 {
		return "file"
	}
	return "disk"
}

// compareZero looks for a byte that is not zero.
func (r *Region) compareZero(disk Disk, buffer []byte) string {
	switch at, err := r.firstData(disk, buffer); {
	case err != nil:
		return "it cannot be read: " + err.Error()
	case at >= 0:
		return fmt.Sprintf("byte %d of the disk is not zero", at)
	}
	return ""
}

// firstData is the place of the region's first byte that is not zero, or -1.
func (r *Region) firstData(disk Disk, buffer []byte) (int64, error) {
	for _, e := range r.At {
		if e.Start < 0 {
			continue
		}
		if at, err := firstData(disk, e.Start, e.Start+e.Length, buffer); err != nil || at >= 0 {
			return at, err
		}
	}
	return -1, nil
}

// compareFields compares byte for byte.
func (r *Region) compareFields(disk Disk) string {
	want, err := hex.DecodeString(r.Bytes)
	if err != nil {
		return err.Error()
	}
	got := make([]byte, len(want))
	if n, err := disk.ReadAt(got, r.At[0].Start); n < len(got) {
		return "it cannot be read: " + err.Error()
	}
	return layouts[r.Fields].differences(want, got)
}

// compareInodes finds the inodes of a table that are not as they should be.
func (l *List) compareInodes(table *Region, disk Disk, fault error) string {
	i := slices.IndexFunc(l.Regions, func(r Region) bool { return r.Part == table.Part && r.Fields == "ext4" })
	b := make([]byte, table.Size)
	if fault == nil {
		_, fault = disk.ReadAt(b, table.At[0].Start)
	}
	if fault != nil {
		return "it cannot be read: " + fault.Error()
	}
	if i < 0 {
		return "it has another SHA-256"
	}
	want, err := hex.DecodeString(l.Regions[i].Bytes)
	if err != nil || len(want) < superblockSize {
		return "it has another SHA-256"
	}
	super, err := parseSuperblock(want)
	if err != nil {
		return err.Error()
	}

	named := map[uint32]Region{}
	for _, r := range l.Regions {
		if r.Part == table.Part && r.Inode != 0 && r.Kind != Structure && r.Kind != HardLink {
			named[r.Inode] = r
		}
	}
	var all []string
	for at := int64(0); at+super.inodeSize <= int64(len(b)); at += super.inodeSize {
		number := table.Inode + uint32(at/super.inodeSize)
		if why := compareInode(super, named[number], number, b[at:at+super.inodeSize]); why != "" {
			all = append(all, why)
		}
	}
	if len(all) == 0 {
		return "it has another SHA-256, though every inode matches its checksum"
	}
	return strings.Join(all, "; ")
}

// compareInode says in which way an inode is not that of want, which has no name
// if the inode has none.
func compareInode(super superblock, want Region, number uint32, raw []byte) string {
	name := fmt.Sprintf("inode %d", number)
	if want.Name != "" {
		name += " of " + want.Name
	}
	if isZero(raw) {
		if want.Name == "" {
			return ""
		}
		return name + " is empty"
	}

	var all []string
	if got := parseInode(raw); want.Name != "" {
		differs := func(field string, got, want any) {
			if got != want {
				all = append(all, fmt.Sprintf("%s is %v instead of %v", field, got, want))
			}
		}
		differs("mode", fmt.Sprintf("%o", got.mode), want.Mode)
		differs("uid", got.uid, want.UID)
		differs("gid", got.gid, want.GID)
		differs("time", got.time, want.Time)
		if want.Size > 0 {
			differs("size", got.size, want.Size)
		}
	}
	if len(all) > 0 {
		return name + ": " + strings.Join(all, ", ")
	}
	if !inodeSummed(super, number, raw) {
		return name + " does not match its checksum"
	}
	return ""
}

// checkRest fails when something is not zero of which the list says nothing, or
// when two regions overlap.
func (l *List) checkRest(ctx context.Context, disk Disk) error {
	taken := l.taken()
	for i := 1; i < len(taken); i++ {
		if end := taken[i-1].Start + taken[i-1].Length; end > taken[i].Start {
			return fmt.Errorf("two regions overlap at byte %d", taken[i].Start)
		}
	}
	faults, err := l.rest(ctx, disk)
	if err != nil || len(faults) == 0 {
		return err
	}
	return faults[0]
}

// taken is where regions lie, in order.
func (l *List) taken() []Extent {
	var all []Extent
	for _, r := range l.ofDisk() {
		for _, e := range r.At {
			if e.Start >= 0 {
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b Extent) int { return int(min(1, max(-1, a.Start-b.Start))) })
	return all
}

// rest finds what is not zero of which the list says nothing: the first place in
// each stretch between regions.
func (l *List) rest(ctx context.Context, disk Disk) ([]Fault, error) {
	var faults []Fault
	buffer, end := make([]byte, 1<<20), int64(0)
	for _, e := range append(l.taken(), Extent{l.DiskSize, 0}) {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		at, err := firstData(disk, end, e.Start, buffer)
		switch {
		case err != nil:
			faults = append(faults, Fault{Place: l.unused(end), Why: "it cannot be read: " + err.Error(), start: end})
		case at >= 0:
			faults = append(faults, Fault{Place: l.unused(at), Why: fmt.Sprintf("byte %d of the disk is not zero", at), start: at})
		}
		end = max(end, e.Start+e.Length)
	}
	return faults, nil
}

// unused names the space between regions at a place.
func (l *List) unused(at int64) string {
	for _, p := range l.Partitions {
		if at >= p.Start && at < p.Start+p.Size {
			return "partition " + p.Name + ": unused space"
		}
	}
	return "unused space outside of the partitions"
}

// firstData is the first byte between start and end that is not zero, or -1.
func firstData(disk Disk, start, end int64, buffer []byte) (int64, error) {
	for start < end {
		from, to, err := disk.NextData(start, end)
		if err != nil {
			return -1, err
		}
		for from < to {
			b := buffer[:min(int64(len(buffer)), to-from)]
			if n, err := disk.ReadAt(b, from); n < len(b) {
				return -1, errors.Join(fmt.Errorf("at byte %d", from+int64(n)), err)
			}
			if !isZero(b) {
				return from + int64(firstDifference(b, make([]byte, len(b)))), nil
			}
			from += int64(len(b))
		}
		start = to
	}
	return -1, nil
}
