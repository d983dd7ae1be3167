package contents

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ext4 lists an ext4 file system as mke2fs writes it. Names and numbers are those
// of Linux's fs/ext4/ext4.h.
type ext4 struct {
	maker *maker
	part  Partition

	super       superblock
	descriptors []byte
	inodes      map[uint32]inode
}

// superblock is what is needed of one.
type superblock struct {
	blockSize, descriptorSize      int64
	blocks, firstBlock             int64
	blocksPerGroup, inodesPerGroup int64
	reservedDescriptors            int64 // blocks
	inodeSize                      int64
	checksumSeed                   uint32
}

const (
	superblockStart = 1024
	superblockSize  = 1024

	incompatExtents, incompat64Bit, incompatFlexGroups       = 0x40, 0x80, 0x200
	incompatFileType, incompatChecksumSeed, incompatRecovery = 0x2, 0x2000, 0x4
	// What is right to list: directories of any size are all the same here.
	incompatKnown = incompatExtents | incompat64Bit | incompatFlexGroups | incompatFileType | incompatChecksumSeed

	compatSparseSuper2      = 0x200
	readOnlySparseSuper     = 0x1
	readOnlyBigAllocation   = 0x200
	readOnlyMetadataSummed  = 0x400
	readOnlyVerity          = 0x8000
	firstInodeOfGroupUnused = 0x1 // EXT4_BG_INODE_UNINIT

	rootInode, resizeInode, journalInode = 2, 7, 8

	flagExtents   = 0x80000
	extentMagic   = 0xf30a
	maxExtentTree = 5
)

func parseSuperblock(b []byte) (superblock, error) {
	le := binary.LittleEndian
	s := superblock{
		blockSize: 1024 << le.Uint32(b[24:]), firstBlock: int64(le.Uint32(b[20:])),
		blocks:         int64(le.Uint32(b[4:])) | int64(le.Uint32(b[336:]))<<32,
		blocksPerGroup: int64(le.Uint32(b[32:])), inodesPerGroup: int64(le.Uint32(b[40:])),
		reservedDescriptors: int64(le.Uint16(b[206:])), inodeSize: int64(le.Uint16(b[88:])), descriptorSize: 32,
	}
	compat, incompat, readOnly := le.Uint32(b[92:]), le.Uint32(b[96:]), le.Uint32(b[100:])
	switch {
	case le.Uint16(b[56:]) != 0xef53:
		return s, errors.New("it is no ext4")
	case incompat&incompatRecovery != 0:
		return s, errors.New("its journal is not empty")
	case incompat&^uint32(incompatKnown) != 0 || compat&compatSparseSuper2 != 0 || readOnly&(readOnlyBigAllocation|readOnlyVerity) != 0:
		return s, fmt.Errorf("it has features that we do not know: %#x, %#x, %#x", compat, incompat, readOnly)
	case readOnly&readOnlySparseSuper == 0 || readOnly&readOnlyMetadataSummed == 0:
		return s, errors.New("it lacks metadata_csum or sparse_super")
	case s.blockSize > 65536 || s.blocksPerGroup == 0 || s.inodesPerGroup == 0 || s.inodeSize < 160:
		return s, errors.New("its superblock is damaged")
	}
	if incompat&incompat64Bit != 0 {
		s.descriptorSize = int64(le.Uint16(b[254:]))
	}
	s.checksumSeed = crc32c(^uint32(0), b[104:120])
	if incompat&incompatChecksumSeed != 0 {
		s.checksumSeed = le.Uint32(b[624:])
	}
	return s, nil
}

func (s superblock) groups() int64 {
	return (s.blocks - s.firstBlock + s.blocksPerGroup - 1) / s.blocksPerGroup
}

// descriptorBlocks is how many blocks the group descriptors take.
func (s superblock) descriptorBlocks() int64 {
	return (s.groups()*s.descriptorSize + s.blockSize - 1) / s.blockSize
}

// hasBackup reports whether a group begins with a superblock: of sparse_super the
// first two and powers of 3, 5 and 7.
func hasBackup(group int64) bool {
	if group <= 1 {
		return true
	}
	for _, base := range []int64{3, 5, 7} {
		power := base
		for power < group {
			power *= base
		}
		if power == group {
			return true
		}
	}
	return false
}

// at is where a block lies on the disk.
func (e *ext4) at(block int64) int64 { return e.part.Start + block*e.super.blockSize }

func (e *ext4) list() error {
	b, err := e.maker.read(e.part.Start+superblockStart, superblockSize)
	if err != nil {
		return err
	}
	if e.super, err = parseSuperblock(b); err != nil {
		return err
	}
	s := e.super
	e.descriptors, err = e.maker.read(e.at(s.firstBlock+1), s.groups()*s.descriptorSize)
	if err != nil {
		return err
	}
	e.inodes = map[uint32]inode{}

	for group := range s.groups() {
		e.group(group)
		if err := e.readInodes(group); err != nil {
			return fmt.Errorf("inodes of group %d: %w", group, err)
		}
	}
	if err := e.directory("/", rootInode, 0); err != nil {
		return err
	}
	return e.hidden()
}

// group adds the structures of a block group.
func (e *ext4) group(group int64) {
	s, name := e.super, e.part.Name
	if hasBackup(group) {
		first, in, of := s.firstBlock+group*s.blocksPerGroup, fmt.Sprintf(" in group %d", group), "backup "
		start := e.at(first)
		if group == 0 {
			in, of = "", ""
			start = e.part.Start + superblockStart
		}
		e.maker.fields(name, of+"superblock"+in, "ext4", start, superblockSize)
		e.maker.structure(name, of+"group descriptors"+in, e.at(first+1), s.descriptorBlocks()*s.blockSize)
		if s.reservedDescriptors > 0 {
			e.maker.structure(name, of+"reserved group descriptors"+in, e.at(first+1+s.descriptorBlocks()), s.reservedDescriptors*s.blockSize)
		}
	}

	blocks, inodes, table := e.descriptor(group)
	e.maker.structure(name, fmt.Sprintf("block bitmap of group %d", group), e.at(blocks), s.blockSize)
	e.maker.structure(name, fmt.Sprintf("inode bitmap of group %d", group), e.at(inodes), s.blockSize)
	e.maker.structure(name, fmt.Sprintf("inode table of group %d", group), e.at(table), s.inodesPerGroup*s.inodeSize)
	e.maker.list.Regions[len(e.maker.list.Regions)-1].Inode = uint32(group*s.inodesPerGroup) + 1
}

// descriptor says at which blocks a group has its bitmaps and its inode table.
func (e *ext4) descriptor(group int64) (blocks, inodes, table int64) {
	le, d := binary.LittleEndian, e.descriptors[group*e.super.descriptorSize:]
	blocks, inodes, table = int64(le.Uint32(d)), int64(le.Uint32(d[4:])), int64(le.Uint32(d[8:]))
	if e.super.descriptorSize >= 64 {
		blocks |= int64(le.Uint32(d[32:])) << 32
		inodes |= int64(le.Uint32(d[36:])) << 32
		table |= int64(le.Uint32(d[40:])) << 32
	}
	return blocks, inodes, table
}

// readInodes reads the inodes of a group that are in use.
func (e *ext4) readInodes(group int64) error {
	d := e.descriptors[group*e.super.descriptorSize:]
	if binary.LittleEndian.Uint16(d[18:])&firstInodeOfGroupUnused != 0 {
		return nil
	}
	_, _, table := e.descriptor(group)
	b, err := e.maker.read(e.at(table), e.super.inodesPerGroup*e.super.inodeSize)
	if err != nil {
		return err
	}
	for i := range e.super.inodesPerGroup {
		raw := b[i*e.super.inodeSize:][:e.super.inodeSize]
		number := uint32(group*e.super.inodesPerGroup+i) + 1
		if isZero(raw) {
			continue
		}
		if !inodeSummed(e.super, number, raw) {
			return fmt.Errorf("inode %d does not match its checksum", number)
		}
		e.inodes[number] = parseInode(raw)
	}
	return nil
}

// directory adds the directory at path and all below it, in order of names.
func (e *ext4) directory(path string, number uint32, depth int) error {
	if depth > maxDepth {
		return errors.New("directories lie in each other without end")
	}
	region, err := e.region(path, number)
	if err != nil {
		return err
	}
	entries, err := e.entries(region)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}

	for _, entry := range entries {
		child := strings.TrimSuffix(path, "/") + "/" + entry.name
		node, ok := e.inodes[entry.inode]
		switch {
		case !ok:
			return fmt.Errorf("%s: inode %d is not in use", child, entry.inode)
		case node.kind() == Directory:
			err = e.directory(child, entry.inode, depth+1)
		default:
			_, err = e.region(child, entry.inode)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entry is a name in a directory.
type entry struct {
	name  string
	inode uint32
}

// entries reads the names in a directory, sorted. The blocks of an index look
// like empty ones.
func (e *ext4) entries(directory Region) ([]entry, error) {
	var all []entry
	for _, extent := range directory.At {
		b, err := e.maker.read(extent.Start, extent.Length)
		if err != nil {
			return nil, err
		}
		for len(b) > 0 {
			number, length, name := binary.LittleEndian.Uint32(b), int(binary.LittleEndian.Uint16(b[4:])), int(b[6])
			if length < 8 || length > len(b) || 8+name > length {
				return nil, errors.New("an entry is damaged")
			}
			if text := string(b[8 : 8+name]); number != 0 && text != "." && text != ".." {
				all = append(all, entry{text, number})
			}
			b = b[length:]
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// region adds what lies at path. Of several names of one inode each has its line;
// the content is listed at the first.
func (e *ext4) region(path string, number uint32) (Region, error) {
	node, ok := e.inodes[number]
	if !ok {
		return Region{}, fmt.Errorf("%s: inode %d is not in use", path, number)
	}
	r := Region{
		Part: e.part.Name, Kind: node.kind(), Name: path, Inode: number,
		Mode: fmt.Sprintf("%o", node.mode), UID: node.uid, GID: node.gid, Time: node.time,
	}
	if node.listed {
		r.Kind, r.Target = HardLink, node.path
		e.maker.list.Regions = append(e.maker.list.Regions, r)
		return r, nil
	}
	node.listed, node.path = true, path
	e.inodes[number] = node

	var err error
	switch short := node.shortTarget(); {
	case short != "":
		r.Target = short
	case r.Kind == File || r.Kind == Directory || r.Kind == Link:
		r.At, err = e.extents(path, node)
		r.Size = node.size
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	if r.Kind == Link && r.Target == "" {
		target, err := e.maker.read(r.At[0].Start, r.Size)
		if err != nil {
			return r, err
		}
		r.Target = string(target)
	}

	e.maker.list.Regions = append(e.maker.list.Regions, r)
	return r, nil
}

// hidden adds what inodes without a name have: the journal, and blocks that are
// kept for more group descriptors.
func (e *ext4) hidden() error {
	var numbers []uint32
	for number, node := range e.inodes {
		if !node.listed && node.size > 0 {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	for _, number := range numbers {
		node, name := e.inodes[number], fmt.Sprintf("content of inode %d", number)
		switch number {
		case resizeInode:
			if block := node.block(13); block != 0 {
				e.maker.structure(e.part.Name, "block map of the resize inode", e.at(block), e.super.blockSize)
			}
			continue
		case journalInode:
			name = "journal"
		}
		at, err := e.extents(name, node)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if number == journalInode && len(at) > 0 && at[0].Length > e.super.blockSize {
			e.maker.structure(e.part.Name, "journal's superblock", at[0].Start, e.super.blockSize)
			at[0].Start, at[0].Length = at[0].Start+e.super.blockSize, at[0].Length-e.super.blockSize
			node.size -= e.super.blockSize
		}
		e.maker.list.Regions = append(e.maker.list.Regions, Region{Part: e.part.Name, Kind: Structure, Name: name, At: at, Size: node.size})
	}
	return nil
}

// extents says where the content of an inode lies, and adds the blocks of its
// extent tree, which belong to name.
func (e *ext4) extents(name string, node inode) ([]Extent, error) {
	if node.flags&flagExtents == 0 {
		if node.size == 0 {
			return nil, nil
		}
		return nil, errors.New("it has no extents")
	}
	w := extentWalk{ext4: e, name: name}
	if err := w.node(node.raw[40:100], maxExtentTree); err != nil {
		return nil, err
	}
	if rest := (node.size+e.super.blockSize-1)/e.super.blockSize - w.next; rest > 0 {
		w.places = appendExtent(w.places, Extent{-1, rest * e.super.blockSize}) // a hole at the end
	}
	return w.places, nil
}

// extentWalk is a walk over the extent tree of one inode.
type extentWalk struct {
	*ext4
	name   string
	places []Extent
	next   int64 // block of the file
}

func (w *extentWalk) node(b []byte, maxDepth int) error {
	le := binary.LittleEndian
	count, depth := int(le.Uint16(b[2:])), int(le.Uint16(b[6:]))
	if le.Uint16(b) != extentMagic || 12+12*count > len(b) || depth > maxDepth {
		return errors.New("its extent tree is damaged")
	}
	for i := range count {
		x := b[12+12*i:]
		if depth > 0 {
			block := int64(le.Uint32(x[4:])) | int64(le.Uint16(x[8:]))<<32
			w.maker.structure(w.part.Name, "extent tree of "+w.name, w.at(block), w.super.blockSize)
			child, err := w.maker.read(w.at(block), w.super.blockSize)
			if err != nil {
				return err
			}
			if err := w.node(child, depth-1); err != nil {
				return err
			}
			continue
		}
		if err := w.leaf(x); err != nil {
			return err
		}
	}
	return nil
}

// leaf adds one extent.
func (w *extentWalk) leaf(x []byte) error {
	le := binary.LittleEndian
	logical, length := int64(le.Uint32(x)), int64(le.Uint16(x[4:]))
	block := int64(le.Uint32(x[8:])) | int64(le.Uint16(x[6:]))<<32
	if length > 1<<15 || logical < w.next {
		return errors.New("an extent is not written, or out of order")
	}
	if hole := logical - w.next; hole > 0 {
		w.places = appendExtent(w.places, Extent{-1, hole * w.super.blockSize})
	}
	w.places = appendExtent(w.places, Extent{w.at(block), length * w.super.blockSize})
	w.next = logical + length
	return nil
}
