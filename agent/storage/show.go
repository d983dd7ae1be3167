package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// overlay says what one mount of a workspace shows.
type overlay struct {
	lower  string // directory below, only read; its ids are mapped where lowerMapped
	upper  string // directory that takes what changes
	work   string // the kernel's, beside upper
	target string // where it is mounted

	lowerMapped bool
}

// show mounts an overlay at its target with the ids 0 to 65535 of its layers
// shown as those from first on, and one more for the account that runs the
// containers. The overlay as a whole cannot be mapped, so its layers are. The kernel
// takes layers of the caller's mount namespace only; in the VM's own, those mapped
// copies would appear to every program and in every namespace that follows it. So a
// thread with a namespace of its own makes the overlay, which then is moved out of
// it.
func show(o overlay, first, account int) error {
	users, err := userNamespace(first, account)
	if err != nil {
		return err
	}
	defer users.Close()
	var mount int
	onThread(func() { mount, err = o.assemble(int(users.Fd()), first) })
	if err != nil {
		return fmt.Errorf("show %s: %w", o.upper, err)
	}
	defer unix.Close(mount)

	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, o.target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s: %w", o.target, err)
	}
	return nil
}

// onThread runs f on a thread that ends with it, and what the thread has made its
// own with the thread. The process's first thread does not end: it is left alone.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			onThread(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

// assemble makes the overlay in a mount namespace of the thread's own and returns
// the mount, which is nowhere yet. Layers lie at the paths that they have
// otherwise, so that the table of mounts says which they are.
func (o overlay) assemble(users, first int) (int, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("part from the mounts of others: %w", err)
	}
	// Upper and work directory have to be in one mount.
	if err := mapLayer(filepath.Dir(o.upper), users); err != nil {
		return -1, err
	}
	if o.lowerMapped {
		if err := mapLayer(o.lower, users); err != nil {
			return -1, err
		}
	}

	if err := actAs(first); err != nil {
		return -1, err
	}
	f, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(f)
	for _, option := range [][2]string{
		{"source", "rockpool"},
		{"lowerdir", o.lower}, {"upperdir", o.upper}, {"workdir", o.work},
		// What the image has is never moved or named anew in the workspace's
		// layer, which so can be read without it.
		{"redirect_dir", "nofollow"}, {"metacopy", "off"}, {"index", "off"},
	} {
		if err := unix.FsconfigSetString(f, option[0], option[1]); err != nil {
			return -1, errors.Join(fmt.Errorf("option %s=%s: %w", option[0], option[1], err), complaint(f))
		}
	}
	if err := unix.FsconfigCreate(f); err != nil {
		return -1, errors.Join(err, complaint(f))
	}
	return unix.Fsmount(f, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOATIME)
}

// actAs has the thread make files as an id, with root's privileges. The overlay
// makes files of its own, such as marks of what was deleted, as who mounts it, and
// root's id is none of those that the layers show.
func actAs(id int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("read the privileges: %w", err)
	}
	if err := unix.Setfsgid(id); err != nil {
		return fmt.Errorf("make files as group %d: %w", id, err)
	}
	if err := unix.Setfsuid(id); err != nil {
		return fmt.Errorf("make files as user %d: %w", id, err)
	}
	// With root's id the thread gave up privileges over files.
	if err := unix.Capset(&header, &sets[0]); err != nil {
		return fmt.Errorf("keep the privileges: %w", err)
	}
	return nil
}

// mapLayer puts an ID-mapped copy of a directory's mount over it.
func mapLayer(dir string, users int) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open the tree %s: %w", dir, err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Propagation: unix.MS_PRIVATE, Userns_fd: uint64(users)}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("map the ids of %s: %w", dir, err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return nil
}

// complaint is what the kernel says of a mount that it refused.
func complaint(f int) error {
	b := make([]byte, 512)
	n, err := unix.Read(f, b)
	if err != nil || n <= 0 {
		return nil
	}
	return errors.New(string(b[:n]))
}

// isMountPoint tells a mount from what is below it by the id of the mount.
func isMountPoint(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// ensureDir makes a directory unless it is there, with an exact mode.
func ensureDir(path string, mode os.FileMode) error {
	err := os.Mkdir(path, mode)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.Chmod(path, mode)
}
