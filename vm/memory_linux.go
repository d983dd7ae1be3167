package vm

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"github.com/rockpool/rootvm/guest"
)

// hostMemory is the host's memory in bytes, or the control group's limit when
// that is lower.
func hostMemory() (int64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	memory, err := guest.MemTotal(bytes.NewReader(b))
	if err != nil {
		return 0, err
	}

	if b, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
			memory = min(memory, limit)
		}
	}
	return memory, nil
}
