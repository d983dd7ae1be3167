package vm

import "fmt"

// Process identifies a process of this host for good: a pid alone may be
// another process tomorrow.
type Process struct {
	Name      string `json:"name,omitempty"`
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"` // on Linux clock ticks since boot, on macOS microseconds since 1970
	BootID    string `json:"bootID"`    // see [BootID]
}

// Identify describes the running process pid.
func Identify(name string, pid int) (Process, error) {
	start, _, err := inspect(pid)
	if err != nil {
		return Process{}, fmt.Errorf("identify %s: %w", name, err)
	}
	return Process{Name: name, PID: pid, StartTime: start, BootID: BootID()}, nil
}

// Alive says whether exactly this process runs. A zombie does not, once all
// its threads have ended: until then they hold its files and their locks.
func (p Process) Alive() bool {
	if p.PID <= 0 || p.BootID != BootID() {
		return false
	}
	start, running, err := inspect(p.PID)
	return err == nil && running && start == p.StartTime
}
