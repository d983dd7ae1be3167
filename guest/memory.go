package guest

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
)

// WorkspaceSlice is the slice of the service user's systemd in which all
// workspaces lie, and nothing that they need to be looked after.
const WorkspaceSlice = "workspaces.slice"

// What is not for workspaces: the kernel, the system's daemons, the agent,
// Caddy, Podman's service and the programs that connect containers.
const (
	systemMemory  = 640 << 20 // bytes
	systemShare   = 16        // and one part in so many of all: page tables, slabs, 28 MB for each workspace's network
	memoryQuantum = 64 << 20  // a kernel's update does not change what is left
)

// WorkspaceMemory is how much of a VM's memory all workspaces may use together,
// in bytes, given what its kernel has to give away (MemTotal of /proc/meminfo).
// The smallest VMs give them half.
func WorkspaceMemory(total int64) int64 {
	left := max(total-systemMemory-total/systemShare, total/2)
	return left - left%memoryQuantum
}

// WorkspaceMemoryFile is where the slice's limit is written, anew on each boot,
// in the form of systemd.resource-control(5).
const WorkspaceMemoryFile = "/run/systemd/user/" + WorkspaceSlice + ".d/50-memory.conf"

// ErrNoMemTotal is that a text is not that of /proc/meminfo.
var ErrNoMemTotal = errors.New("no MemTotal in /proc/meminfo")

// MemTotal reads what a kernel has to give away, in bytes, from a text in the
// form of /proc/meminfo.
func MemTotal(r io.Reader) (int64, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) >= 2 && f[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil || kib <= 0 || kib > 1<<50 {
				return 0, ErrNoMemTotal
			}
			return kib << 10, nil
		}
	}
	return 0, errors.Join(ErrNoMemTotal, lines.Err())
}
