package vm

import (
	"fmt"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// StartShielded starts a process of a machine in a session of its own, with the
// signals blocked by which a session or the host ends everything (SIGTERM,
// SIGINT, SIGHUP): they would be a power cut for the guest. The supervisor gets
// the same signals and shuts the guest down. A blocked signal is inherited over
// execve(2), and QEMU and virtiofsd leave the mask alone; SIGKILL ends them as
// ever.
func StartShielded(cmd *exec.Cmd) error {
	cmd.SysProcAttr = detached()
	// The mask is the thread's, and a child has that of the thread that forks it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var blocked, before unix.Sigset_t
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
		blocked.Val[(sig-1)/64] |= 1 << ((sig - 1) % 64)
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &blocked, &before); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	return cmd.Start()
}
