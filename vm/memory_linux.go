package vm

import (
	"errors"
	"os"
	"strconv"
	"strings"
)

// hostMemory is the host's memory in bytes, or the control group's limit when
// that is lower.
func hostMemory() (int64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	memory := meminfoTotal(b)
	if memory == 0 {
		return 0, errors.New("no MemTotal in /proc/meminfo")
	}

	if b, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
			memory = min(memory, limit)
		}
	}
	return memory, nil
}
