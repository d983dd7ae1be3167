package vm

import "golang.org/x/sys/unix"

// hostMemory is the host's memory in bytes.
func hostMemory() (int64, error) {
	memory, err := unix.SysctlUint64("hw.memsize")
	return int64(memory), err
}
