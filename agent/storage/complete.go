package storage

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// mountTable is where programs look for mounts, and what it is.
const (
	mountTable     = "mtab"
	mountTableLink = "/proc/mounts"
)

// complete makes what Podman makes at each start in a root file system that lacks
// it, /etc and /etc/mtab. Podman itself cannot: its user is none of those that the
// view shows. A link that is /etc leads no further than the root. first is the id
// in the VM of id 0 of the container.
func complete(root string, first int) (err error) {
	onThread(func() {
		if err = unix.Unshare(unix.CLONE_FS); err != nil {
			return
		}
		unix.Umask(0)
		if err = actAs(first); err == nil {
			err = makeMountTable(root)
		}
	})
	if err != nil {
		return fmt.Errorf("complete %s: %w", root, err)
	}
	return nil
}

// makeMountTable makes /etc/mtab unless it is there.
func makeMountTable(root string) error {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := unix.Mkdirat(dir, "etc", 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make etc: %w", err)
	}

	etc, err := unix.Openat2(dir, "etc", &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return fmt.Errorf("open etc: %w", err)
	}
	defer unix.Close(etc)
	var there unix.Stat_t
	if err := unix.Fstatat(etc, mountTable, &there, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		return nil // it takes a look, not room
	}
	if err := unix.Symlinkat(mountTableLink, etc, mountTable); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make etc/%s: %w", mountTable, err)
	}
	return nil
}
