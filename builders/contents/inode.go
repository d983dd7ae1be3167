package contents

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// inode is what is needed of struct ext4_inode.
type inode struct {
	raw      []byte
	mode     uint16
	uid, gid uint32
	size     int64
	time     int64 // of modification
	flags    uint32
	path     string // the first that names it
	listed   bool
}

func parseInode(b []byte) inode {
	le := binary.LittleEndian
	n := inode{
		raw:  b,
		mode: le.Uint16(b), flags: le.Uint32(b[32:]),
		uid:  uint32(le.Uint16(b[2:])) | uint32(le.Uint16(b[120:]))<<16,
		gid:  uint32(le.Uint16(b[24:])) | uint32(le.Uint16(b[122:]))<<16,
		size: int64(le.Uint32(b[4:])) | int64(le.Uint32(b[108:]))<<32,
		time: int64(int32(le.Uint32(b[16:]))),
	}
	if le.Uint16(b[128:]) >= 12 { // i_extra_isize, up to i_mtime_extra
		n.time += int64(le.Uint32(b[136:])&3) << 32
	}
	return n
}

// kind says what the inode is, by S_IFMT.
func (n inode) kind() string {
	switch n.mode & 0xf000 {
	case 0x8000:
		return File
	case 0x4000:
		return Directory
	case 0xa000:
		return Link
	}
	return Special
}

// shortTarget is what a symbolic link says whose target is in the inode itself.
func (n inode) shortTarget() string {
	if n.kind() != Link || n.size >= 60 || n.flags&flagExtents != 0 {
		return ""
	}
	return string(n.raw[40 : 40+n.size])
}

// block is an entry of the block map of an inode without extents.
func (n inode) block(i int) int64 { return int64(binary.LittleEndian.Uint32(n.raw[40+4*i:])) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c is Linux's, which inverts neither before nor after.
func crc32c(seed uint32, b []byte) uint32 { return ^crc32.Update(^seed, castagnoli, b) }

// inodeSummed compares an inode with its checksum, as ext4_inode_csum makes it. Of
// an inode without i_checksum_hi its lower half alone is kept.
func inodeSummed(s superblock, number uint32, raw []byte) bool {
	le := binary.LittleEndian
	b := bytes.Clone(raw)
	clear(b[124:126])
	want, mask := uint32(le.Uint16(raw[124:])), uint32(0xffff)
	if le.Uint16(raw[128:]) >= 4 { // i_extra_isize
		clear(b[130:132])
		want, mask = want|uint32(le.Uint16(raw[130:]))<<16, ^uint32(0)
	}
	sum := crc32c(s.checksumSeed, le.AppendUint32(nil, number))
	sum = crc32c(sum, b[100:104]) // i_generation
	return crc32c(sum, b)&mask == want
}
