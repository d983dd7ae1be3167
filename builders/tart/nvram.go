package tart

import "encoding/binary"

// nvramSize is that of the variable store which Virtualization.framework makes.
const nvramSize = 128 << 10

// nvram is nvram.bin of a VM that was never booted: a firmware volume of EDK2
// (MdePkg/Include/Pi/PiFirmwareVolume.h) with an empty variable store
// (MdeModulePkg/Include/Guid/VariableFormat.h) in it. Its SHA-256 is that of
// files which Tart made,
// 8b8dccf70d6393cffae2428b730120fe0695a8e05207131f56c0f8bb2da8c1da.
func nvram() []byte {
	order := binary.LittleEndian
	b := make([]byte, 0, nvramSize)

	// The volume's header. Its checksum makes the sum of its words 0.
	b = append(b, make([]byte, 16)...)
	b = appendGUID(b, 0xFFF12B8D, 0x7696, 0x4C8B, [8]byte{0xA9, 0x85, 0x27, 0x47, 0x07, 0x5B, 0x4F, 0x50}) // gEfiSystemNvDataFvGuid
	b = order.AppendUint64(b, nvramSize)
	b = append(b, "_FVH"...)
	b = order.AppendUint32(b, 0xE36)  // attributes
	b = order.AppendUint16(b, 0x48)   // length of the header
	b = order.AppendUint16(b, 0xE9E6) // checksum
	b = order.AppendUint16(b, 0)      // no extended header
	b = append(b, 0, 2)               // reserved, revision
	for _, blocks := range [][2]uint32{{32, 4096}, {0, 0}} {
		b = order.AppendUint32(order.AppendUint32(b, blocks[0]), blocks[1])
	}

	// The store's header: formatted, healthy.
	b = appendGUID(b, 0xDDCF3616, 0x3275, 0x4164, [8]byte{0x98, 0xB6, 0xFE, 0x85, 0x70, 0x7F, 0xFE, 0x7D}) // gEfiVariableGuid
	b = order.AppendUint32(b, 0xDFB8)                                                                      // size of the store
	b = append(b, 0x5A, 0xFE)
	b = append(b, make([]byte, 6)...)

	for len(b) < nvramSize {
		b = append(b, 0xFF)
	}
	return b
}

// appendGUID appends a GUID as UEFI has it: three numbers in the processor's
// order, eight bytes as they are written.
func appendGUID(b []byte, first uint32, second, third uint16, rest [8]byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, first)
	b = binary.LittleEndian.AppendUint16(b, second)
	b = binary.LittleEndian.AppendUint16(b, third)
	return append(b, rest[:]...)
}
