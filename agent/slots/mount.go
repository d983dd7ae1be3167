package slots

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// mountView mounts source at target with its ids 0 to 65535 shown as those
// from first on, read-only. The mount program of Debian 12 cannot do it.
func mountView(source, target string, first int) error {
	userns, err := userNamespace(first)
	if err != nil {
		return err
	}
	defer userns.Close()
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open the tree %s: %w", source, err)
	}
	defer unix.Close(tree)

	attr := unix.MountAttr{
		Attr_set:    unix.MOUNT_ATTR_IDMAP | unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV,
		Propagation: unix.MS_PRIVATE,
		Userns_fd:   uint64(userns.Fd()),
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("map the ids of %s: %w", source, err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

// userNamespace returns a user namespace whose ids 0 to 65535 are those from
// first on. A process has to be born into it; it is this program again, which
// is stopped before its first instruction and killed as soon as the namespace
// is open.
func userNamespace(first int) (*os.File, error) {
	runtime.LockOSThread() // a tracer is a thread
	defer runtime.UnlockOSThread()

	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: first, Size: agent.SlotSize}}
	process, err := os.StartProcess("/proc/self/exe", []string{"rockpool-slot"}, &os.ProcAttr{
		Sys: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: ids,
			GidMappings: ids,
			Ptrace:      true,
			Pdeathsig:   syscall.SIGKILL,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", process.Pid))
	killErr := process.Kill()
	_, waitErr := process.Wait()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a user namespace: %w", err), killErr, waitErr)
	}
	return f, nil
}
