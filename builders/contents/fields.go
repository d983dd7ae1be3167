package contents

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// field is a part of a structure that has a name.
type field struct {
	name   string
	at     int
	length int
}

// order is how a structure's numbers are written.
type order = binary.ByteOrder

// layout says what the bytes of a structure are called.
type layout struct {
	order  order
	fields []field
}

// layouts are those of structures that a list holds byte for byte.
var layouts = map[string]layout{
	// UEFI specification 2.10, 5.2.3 and 5.3.
	"mbr": {binary.LittleEndian, []field{
		{"disk signature", 0, 4}, {"reserved", 4, 2}, {"partition 1", 6, 16}, {"partition 2", 22, 16},
		{"partition 3", 38, 16}, {"partition 4", 54, 16}, {"signature", 70, 2},
	}},
	"gpt": {binary.LittleEndian, []field{
		{"signature", 0, 8}, {"revision", 8, 4}, {"header size", 12, 4}, {"header CRC", 16, 4}, {"reserved", 20, 4},
		{"own sector", 24, 8}, {"sector of the twin", 32, 8}, {"first usable sector", 40, 8}, {"last usable sector", 48, 8},
		{"disk GUID", 56, 16}, {"sector of the entries", 72, 8}, {"number of entries", 80, 4}, {"size of an entry", 84, 4},
		{"CRC of the entries", 88, 4}, {"reserved", 92, 420},
	}},
	"gpt entry": {binary.LittleEndian, []field{
		{"type", 0, 16}, {"GUID", 16, 16}, {"first sector", 32, 8}, {"last sector", 40, 8}, {"attributes", 48, 8}, {"name", 56, 72},
	}},
	// Microsoft's FAT specification of 2000, BPB and FSInfo.
	"fat32": {binary.LittleEndian, []field{
		{"jump", 0, 3}, {"OEM name", 3, 8}, {"bytes per sector", 11, 2}, {"sectors per cluster", 13, 1}, {"reserved sectors", 14, 2},
		{"number of FATs", 16, 1}, {"root entries", 17, 2}, {"sectors (16 bits)", 19, 2}, {"media", 21, 1}, {"sectors per FAT (16 bits)", 22, 2},
		{"sectors per track", 24, 2}, {"heads", 26, 2}, {"hidden sectors", 28, 4}, {"sectors", 32, 4}, {"sectors per FAT", 36, 4},
		{"flags", 40, 2}, {"version", 42, 2}, {"root cluster", 44, 4}, {"FSInfo sector", 48, 2}, {"backup boot sector", 50, 2},
		{"reserved", 52, 12}, {"drive", 64, 1}, {"reserved", 65, 1}, {"extended signature", 66, 1}, {"serial number", 67, 4},
		{"label", 71, 11}, {"file system type", 82, 8}, {"boot code", 90, 420}, {"signature", 510, 2},
	}},
	"fsinfo": {binary.LittleEndian, []field{
		{"lead signature", 0, 4}, {"reserved", 4, 480}, {"signature", 484, 4}, {"free clusters", 488, 4}, {"next free cluster", 492, 4},
		{"reserved", 496, 12}, {"trail signature", 508, 4},
	}},
	// Linux's fs/ext4/ext4.h, struct ext4_super_block.
	"ext4": {binary.LittleEndian, []field{
		{"s_inodes_count", 0, 4}, {"s_blocks_count_lo", 4, 4}, {"s_r_blocks_count_lo", 8, 4}, {"s_free_blocks_count_lo", 12, 4},
		{"s_free_inodes_count", 16, 4}, {"s_first_data_block", 20, 4}, {"s_log_block_size", 24, 4}, {"s_log_cluster_size", 28, 4},
		{"s_blocks_per_group", 32, 4}, {"s_clusters_per_group", 36, 4}, {"s_inodes_per_group", 40, 4}, {"s_mtime", 44, 4}, {"s_wtime", 48, 4},
		{"s_mnt_count", 52, 2}, {"s_max_mnt_count", 54, 2}, {"s_magic", 56, 2}, {"s_state", 58, 2}, {"s_errors", 60, 2}, {"s_minor_rev_level", 62, 2},
		{"s_lastcheck", 64, 4}, {"s_checkinterval", 68, 4}, {"s_creator_os", 72, 4}, {"s_rev_level", 76, 4}, {"s_def_resuid", 80, 2},
		{"s_def_resgid", 82, 2}, {"s_first_ino", 84, 4}, {"s_inode_size", 88, 2}, {"s_block_group_nr", 90, 2}, {"s_feature_compat", 92, 4},
		{"s_feature_incompat", 96, 4}, {"s_feature_ro_compat", 100, 4}, {"s_uuid", 104, 16}, {"s_volume_name", 120, 16}, {"s_last_mounted", 136, 64},
		{"s_algorithm_usage_bitmap", 200, 4}, {"s_prealloc_blocks", 204, 1}, {"s_prealloc_dir_blocks", 205, 1}, {"s_reserved_gdt_blocks", 206, 2},
		{"s_journal_uuid", 208, 16}, {"s_journal_inum", 224, 4}, {"s_journal_dev", 228, 4}, {"s_last_orphan", 232, 4}, {"s_hash_seed", 236, 16},
		{"s_def_hash_version", 252, 1}, {"s_jnl_backup_type", 253, 1}, {"s_desc_size", 254, 2}, {"s_default_mount_opts", 256, 4},
		{"s_first_meta_bg", 260, 4}, {"s_mkfs_time", 264, 4}, {"s_jnl_blocks", 268, 68}, {"s_blocks_count_hi", 336, 4}, {"s_r_blocks_count_hi", 340, 4},
		{"s_free_blocks_count_hi", 344, 4}, {"s_min_extra_isize", 348, 2}, {"s_want_extra_isize", 350, 2}, {"s_flags", 352, 4},
		{"s_raid_stride", 356, 2}, {"s_mmp_interval", 358, 2}, {"s_mmp_block", 360, 8}, {"s_raid_stripe_width", 368, 4}, {"s_log_groups_per_flex", 372, 1},
		{"s_checksum_type", 373, 1}, {"s_reserved_pad", 374, 2}, {"s_kbytes_written", 376, 8}, {"from s_snapshot_inum to s_last_error_func", 384, 128},
		{"s_mount_opts", 512, 64}, {"s_usr_quota_inum", 576, 4}, {"s_grp_quota_inum", 580, 4}, {"s_overhead_clusters", 584, 4}, {"s_backup_bgs", 588, 8},
		{"s_encrypt_algos", 596, 4}, {"s_encrypt_pw_salt", 600, 16}, {"s_lpf_ino", 616, 4}, {"s_prj_quota_inum", 620, 4}, {"s_checksum_seed", 624, 4},
		{"from s_wtime_hi to s_reserved", 628, 392}, {"s_checksum", 1020, 4},
	}},
	// QEMU's docs/interop/qcow2.txt.
	"qcow2": {binary.BigEndian, []field{
		{"magic", 0, 4}, {"version", 4, 4}, {"backing_file_offset", 8, 8}, {"backing_file_size", 16, 4}, {"cluster_bits", 20, 4}, {"size", 24, 8},
		{"crypt_method", 32, 4}, {"l1_size", 36, 4}, {"l1_table_offset", 40, 8}, {"refcount_table_offset", 48, 8}, {"refcount_table_clusters", 56, 4},
		{"nb_snapshots", 60, 4}, {"snapshots_offset", 64, 8}, {"incompatible_features", 72, 8}, {"compatible_features", 80, 8},
		{"autoclear_features", 88, 8}, {"refcount_order", 96, 4}, {"header_length", 100, 4}, {"compression_type", 104, 1}, {"padding", 105, 7},
	}},
}

// size is how many bytes the fields are.
func (l layout) size() int {
	last := l.fields[len(l.fields)-1]
	return last.at + last.length
}

// differences names the fields in which got is not want.
func (l layout) differences(want, got []byte) string {
	var all []string
	for _, f := range l.fields {
		a, b := want[f.at:f.at+f.length], got[f.at:f.at+f.length]
		switch {
		case bytes.Equal(a, b):
		case f.length > 16:
			at := firstDifference(a, b)
			all = append(all, fmt.Sprintf("%s has %#02x instead of %#02x at its byte %d", f.name, b[at], a[at], at))
		default:
			all = append(all, fmt.Sprintf("%s is %s instead of %s", f.name, l.value(b), l.value(a)))
		}
	}
	return strings.Join(all, ", ")
}

// firstDifference is the first place where two slices of one length differ, or
// that length.
func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

// value is a number, or the bytes of what is none.
func (l layout) value(b []byte) string {
	switch len(b) {
	case 1:
		return fmt.Sprintf("%#x", b[0])
	case 2:
		return fmt.Sprintf("%#x", l.order.Uint16(b))
	case 4:
		return fmt.Sprintf("%#x", l.order.Uint32(b))
	case 8:
		return fmt.Sprintf("%#x", l.order.Uint64(b))
	}
	return hex.EncodeToString(b)
}
