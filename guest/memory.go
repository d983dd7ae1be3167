package guest

// WorkspaceSlice is the slice of the service user's systemd in which all
// workspaces lie, and nothing that they need to be looked after.
const WorkspaceSlice = "workspaces.slice"

// What is not for workspaces: the kernel, the system's daemons, the agent,
// Caddy, Podman's service and the programs that connect containers.
const (
	systemMemory  = 640 << 20 // bytes
	systemShare   = 32        // and one part in so many of all: page tables, slabs
	memoryQuantum = 64 << 20  // a kernel's update does not change what is left
)

// WorkspaceMemory is how much of a VM's memory all workspaces may use together,
// in bytes, given what its kernel has to give away (MemTotal of /proc/meminfo).
// The smallest VMs give them half.
func WorkspaceMemory(total int64) int64 {
	left := max(total-systemMemory-total/systemShare, total/2)
	return left - left%memoryQuantum
}
