package setup

import (
	"bytes"
	"context"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Linux is the [Kernel] of the running machine. It is used with Root "/".
type Linux struct{}

// Mount is mount(2).
func (Linux) Mount(source, target, fstype string, flags uintptr, data string) error {
	return unix.Mount(source, target, fstype, flags, data)
}

// Unmount is umount2(2) without flags.
func (Linux) Unmount(target string) error { return unix.Unmount(target, 0) }

// SetHostname is sethostname(2).
func (Linux) SetHostname(name string) error { return unix.Sethostname([]byte(name)) }

// Chown is lchown(2).
func (Linux) Chown(path string, uid, gid int) error { return os.Lchown(path, uid, gid) }

// Exec is the [Commands] of the running machine.
type Exec struct{}

// Run starts a program with an environment of its own: no terminal, no
// language but C.
func (Exec) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	return bytes.TrimSpace(out), err
}
