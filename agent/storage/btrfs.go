package storage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of btrfs, after linux/btrfs.h. They are asked for here, and not of
// btrfs-progs, whose output is for people and which Debian 12 has in a version
// that knows nothing of simple quotas.
var (
	requestSync         = request(0, 8, 0)
	requestResize       = request(directionWrite, 3, unsafe.Sizeof(volumeArgs{}))
	requestCreate       = request(directionWrite, 14, unsafe.Sizeof(volumeArgs{}))
	requestDestroy      = request(directionWrite, 15, unsafe.Sizeof(volumeArgs{}))
	requestLookup       = request(directionWrite|directionRead, 18, unsafe.Sizeof(lookupArgs{}))
	requestSetFlags     = request(directionWrite, 26, unsafe.Sizeof(uint64(0)))
	requestInfo         = request(directionRead, 31, unsafe.Sizeof(infoArgs{}))
	requestQuota        = request(directionWrite|directionRead, 40, unsafe.Sizeof(quotaArgs{}))
	requestQuotaGroup   = request(directionWrite, 42, unsafe.Sizeof(groupArgs{}))
	requestQuotaLimit   = request(directionRead, 43, unsafe.Sizeof(limitArgs{}))
	requestQuotaRescan  = request(directionWrite, 44, 64)
	requestQuotaAwaited = request(0, 46, 0)
)

// The two directions of a request (_IOC_WRITE, _IOC_READ).
const (
	directionWrite = 1
	directionRead  = 2
)

// Values in requests, after linux/btrfs.h and linux/btrfs_tree.h.
const (
	firstObject       = 256        // inode of a subvolume's root
	subvolumeReadOnly = 1 << 1     // BTRFS_SUBVOL_RDONLY
	quotaEnable       = 1          // BTRFS_QUOTA_CTL_ENABLE
	quotaEnableSimple = 4          // BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA, since Linux 6.7
	limitReferenced   = 1 << 0     // BTRFS_QGROUP_LIMIT_MAX_RFER
	noLimit           = ^uint64(0) // clears a limit
)

// volumeArgs is struct btrfs_ioctl_vol_args.
type volumeArgs struct {
	_    int64
	name [4088]byte
}

// lookupArgs is struct btrfs_ioctl_ino_lookup_args.
type lookupArgs struct {
	tree, object uint64
	_            [4080]byte
}

// infoArgs is struct btrfs_ioctl_fs_info_args.
type infoArgs struct {
	_, _ uint64
	fsid [16]byte
	_    [992]byte
}

// quotaArgs is struct btrfs_ioctl_quota_ctl_args.
type quotaArgs struct{ command, _ uint64 }

// groupArgs is struct btrfs_ioctl_qgroup_create_args.
type groupArgs struct{ _, group uint64 } // the first is 0, which removes it

// limitArgs is struct btrfs_ioctl_qgroup_limit_args.
type limitArgs struct{ group, flags, referenced, _, _, _ uint64 }

// request encodes the number of a request of btrfs (_IOC of linux/ioctl.h).
func request(direction, number, size uintptr) uintptr {
	const magic = 0x94
	return direction<<30 | size<<16 | magic<<8 | number
}

// ask sends a request to the file system that dir is in.
func ask[T any](dir string, request uintptr, args *T) error {
	f, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(args)))
	runtime.KeepAlive(args)
	if errno != 0 {
		return errno
	}
	return nil
}

// named are the arguments of a request that names something in a directory.
func named(name string) *volumeArgs {
	args := new(volumeArgs)
	copy(args.name[:len(args.name)-1], name)
	return args
}

// createSubvolume makes an empty subvolume.
func createSubvolume(path string) error {
	if err := ask(filepath.Dir(path), requestCreate, named(filepath.Base(path))); err != nil {
		return fmt.Errorf("make the subvolume %s: %w", path, err)
	}
	return nil
}

// destroySubvolume deletes a subvolume and all that is in it at once; the file
// system gives its space back in the background. One that is not there is fine.
func destroySubvolume(path string) error {
	err := ask(filepath.Dir(path), requestDestroy, named(filepath.Base(path)))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete the subvolume %s: %w", path, err)
	}
	return nil
}

// sealSubvolume makes a subvolume read-only.
func sealSubvolume(path string) error {
	flags := uint64(subvolumeReadOnly)
	if err := ask(path, requestSetFlags, &flags); err != nil {
		return fmt.Errorf("make the subvolume %s read-only: %w", path, err)
	}
	return nil
}

// subvolumeID is the number of the subvolume that dir is in, which is that of its
// quota group, too.
func subvolumeID(dir string) (uint64, error) {
	args := lookupArgs{object: firstObject}
	if err := ask(dir, requestLookup, &args); err != nil {
		return 0, fmt.Errorf("find the number of the subvolume %s: %w", dir, err)
	}
	return args.tree, nil
}

// commit writes out what was changed in the file system that dir is in.
func commit(dir string) error {
	if err := ask(dir, requestSync, new(uint64)); err != nil {
		return fmt.Errorf("write out %s: %w", dir, err)
	}
	return nil
}

// resizeToDevice lets the file system fill its device.
func resizeToDevice(dir string) error {
	if err := ask(dir, requestResize, named("1:max")); err != nil {
		return fmt.Errorf("grow the file system at %s: %w", dir, err)
	}
	return nil
}

// quotas are the quota groups of one file system. What they say is read from
// sysfs, where the kernel has it ready in decimal (since Linux 5.9).
type quotas struct {
	dir   string // in the file system
	sysfs string // directory of the groups
}

// quotasOf returns the quota groups of the file system that dir is in.
func quotasOf(dir string) (quotas, error) {
	var args infoArgs
	if err := ask(dir, requestInfo, &args); err != nil {
		return quotas{}, fmt.Errorf("find the file system of %s: %w", dir, err)
	}
	id := args.fsid
	uuid := fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	return quotas{dir: dir, sysfs: filepath.Join("/sys/fs/btrfs", uuid, "qgroups")}, nil
}

// enable has the file system count, simply if that is wanted and the kernel can, and
// brings counters that a power cut left wrong into order.
func (q quotas) enable(simple bool) error {
	if _, err := os.Stat(q.sysfs); err == nil {
		if wrong, err := q.read("inconsistent"); err != nil || wrong == 0 {
			return err
		}
		return q.rescan()
	}
	err := error(unix.EINVAL)
	if simple {
		err = ask(q.dir, requestQuota, &quotaArgs{command: quotaEnableSimple})
	}
	if errors.Is(err, unix.EINVAL) { // before Linux 6.7
		err = ask(q.dir, requestQuota, &quotaArgs{command: quotaEnable})
		if err == nil {
			err = q.rescan()
		}
	}
	if err != nil {
		return fmt.Errorf("turn quotas on: %w", err)
	}
	return nil
}

// rescan counts anew and waits for the result.
func (q quotas) rescan() error {
	err := ask(q.dir, requestQuotaRescan, new([64]byte))
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("count what the quotas hold: %w", err)
	}
	if err := ask(q.dir, requestQuotaAwaited, new(uint64)); err != nil {
		return fmt.Errorf("wait for what the quotas hold: %w", err)
	}
	return nil
}

// read returns a number that the kernel shows.
func (q quotas) read(name string) (uint64, error) {
	b, err := os.ReadFile(filepath.Join(q.sysfs, name))
	if err != nil {
		return 0, fmt.Errorf("read a quota: %w", err)
	}
	return strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
}

// groupDir is the directory of a subvolume's group in sysfs.
func groupDir(subvolume uint64) string { return "0_" + strconv.FormatUint(subvolume, 10) }

// setLimit limits what a subvolume may hold, in bytes.
func (q quotas) setLimit(subvolume uint64, limit int64) error {
	args := limitArgs{group: subvolume, flags: limitReferenced, referenced: noLimit}
	if limit > 0 {
		args.referenced = uint64(limit)
	}
	if err := ask(q.dir, requestQuotaLimit, &args); err != nil {
		return fmt.Errorf("limit a subvolume: %w", err)
	}
	return nil
}

// usage returns what a subvolume holds and its limit, 0 for none, in bytes.
func (q quotas) usage(subvolume uint64) (used, limit int64, err error) {
	u, err := q.read(filepath.Join(groupDir(subvolume), "referenced"))
	if err != nil {
		return 0, 0, err
	}
	l, err := q.read(filepath.Join(groupDir(subvolume), "max_referenced"))
	if err != nil {
		return 0, 0, err
	}
	flags, err := q.read(filepath.Join(groupDir(subvolume), "limit_flags"))
	if err != nil || flags&limitReferenced == 0 || l == noLimit {
		l = 0
	}
	return int64(u), int64(l), err
}

// drop removes the groups of subvolumes that are gone; the kernel does not do
// that before Linux 6.12. It refuses those of subvolumes that are there, or that
// it is still clearing away.
func (q quotas) drop(alive map[uint64]bool) error {
	entries, err := os.ReadDir(q.sysfs)
	if err != nil {
		return fmt.Errorf("list the quotas: %w", err)
	}
	for _, e := range entries {
		s, ok := strings.CutPrefix(e.Name(), "0_")
		subvolume, err := strconv.ParseUint(s, 10, 64)
		if !ok || err != nil || subvolume < firstObject || alive[subvolume] {
			continue
		}
		err = ask(q.dir, requestQuotaGroup, &groupArgs{group: subvolume})
		if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove the quota of a subvolume that is gone: %w", err)
		}
	}
	return nil
}
