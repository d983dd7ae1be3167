package vm

import (
	"fmt"
	"runtime"
)

// Resources is what a host has to give.
type Resources struct {
	Memory int64 // bytes; the control group's limit when it is lower
	CPUs   int
}

// HostResources reads this host's resources.
func HostResources() (Resources, error) {
	memory, err := hostMemory()
	if err != nil {
		return Resources{}, fmt.Errorf("read the host's memory: %w", err)
	}
	return Resources{Memory: memory, CPUs: runtime.NumCPU()}, nil
}

// Fit shrinks what the user did not ask for to what the host has, and says so
// in sentences. Memory is left to the host: 2 GiB, or half of a small one.
func (c *Config) Fit(r Resources, memoryAsked, cpusAsked bool) (notes []string) {
	if limit := max(r.Memory-2*GiB, r.Memory/2) / (256 * MiB) * (256 * MiB); c.Memory > limit {
		if memoryAsked {
			notes = append(notes, fmt.Sprintf("%s of memory for the VM is more than this host can spare (it has %s): expect swapping", Bytes(c.Memory), Bytes(r.Memory)))
		} else {
			notes = append(notes, fmt.Sprintf("memory is %s instead of %s, because this host has %s (ROOT_VM_MEMORY overrides)", Bytes(limit), Bytes(c.Memory), Bytes(r.Memory)))
			c.Memory = limit
		}
	}
	if c.CPUs > r.CPUs {
		if cpusAsked {
			notes = append(notes, fmt.Sprintf("%d cpus for the VM are more than this host has (%d): they will share", c.CPUs, r.CPUs))
		} else {
			notes = append(notes, fmt.Sprintf("%d cpus instead of %d, because this host has no more (ROOT_VM_CPUS overrides)", r.CPUs, c.CPUs))
			c.CPUs = r.CPUs
		}
	}
	return notes
}
