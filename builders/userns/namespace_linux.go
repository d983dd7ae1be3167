package userns

import "syscall"

// tied are the attributes of a command that is in a process group of its own
// and is killed when the calling process dies.
func tied() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
