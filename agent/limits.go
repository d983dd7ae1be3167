package agent

import (
	"context"
	"fmt"
	"time"
)

// What a workspace may be given at least, and what it is given unless its owner
// says otherwise, in bytes.
const (
	MinMemory = 256 << 20
	MinDisk   = 1 << 30

	DefaultMemory = 4 << 30
	DefaultDisk   = 20_000_000_000
)

// Limits are what a workspace may use, in bytes. 0 is the default, which
// follows the VM's size.
type Limits struct {
	Memory int64
	Disk   int64 // of its home directory and its own layer together
}

// Capacity is what all workspaces have together, in bytes. 0 is not known, and
// then limits nothing.
type Capacity struct {
	Memory int64
	Disk   int64
}

// Defaults are the limits of a workspace whose owner set none: 4 GiB of memory,
// or all that workspaces have when that is less, and 20 GB of the disk, or a
// quarter of it when that is less, but no less than [MinDisk].
func (c Capacity) Defaults() Limits {
	d := Limits{Memory: DefaultMemory, Disk: DefaultDisk}
	if c.Memory > 0 {
		d.Memory = min(d.Memory, c.Memory)
	}
	if c.Disk > 0 {
		d.Disk = min(max(c.Disk/4, MinDisk), d.Disk, c.Disk)
	}
	return d
}

// Of returns what limits mean in a VM of this capacity: defaults filled in, and
// nothing above what is there, as when the VM was made smaller.
func (c Capacity) Of(l Limits) Limits {
	d := c.Defaults()
	if l.Memory == 0 {
		l.Memory = d.Memory
	}
	if l.Disk == 0 {
		l.Disk = d.Disk
	}
	if c.Memory > 0 {
		l.Memory = min(l.Memory, c.Memory)
	}
	if c.Disk > 0 {
		l.Disk = min(l.Disk, c.Disk)
	}
	return l
}

// Validate returns nil when a workspace may be given these limits, and else a
// validation error that says what it may be given.
func (c Capacity) Validate(l Limits) error {
	var v validation
	v.check(within(l.Memory, MinMemory, c.Memory), "memoryBytes", allowed(MinMemory, c.Memory, "what the VM has for workspaces"))
	v.check(within(l.Disk, MinDisk, c.Disk), "diskBytes", allowed(MinDisk, c.Disk, "the size of the disk for workspaces"))
	return v.err()
}

func within(n, least, most int64) bool {
	return n == 0 || n >= least && (most == 0 || n <= most)
}

// allowed says what a limit may be, in the words of a validation error.
func allowed(least, most int64, what string) string {
	if most == 0 {
		return fmt.Sprintf("must be 0, for the default, or at least %s", Size(least))
	}
	return fmt.Sprintf("must be 0, for the default, or from %s to %s, which is %s", Size(least), Size(most), what)
}

// Size writes bytes for people, in powers of 1024.
func Size(n int64) string {
	const mib = 1 << 20
	if n < 1024*mib {
		return fmt.Sprintf("%d MiB", n/mib)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1024*mib))
}

// LimitRange is one limit of a workspace, and what it may be, in bytes. Max is
// 0 while it is not known.
type LimitRange struct {
	Limit, Default, Min, Max int64
}

// LimitState is what a workspace's owner set, and what that means in this VM.
type LimitState struct {
	Set    Limits
	Memory LimitRange
	Disk   LimitRange

	DiskUsed *int64 // bytes of the files; nil while there are none, and while that is not known
}

// DiskFill is how full the workspace's files are.
func (s LimitState) DiskFill() DiskFill {
	if s.DiskUsed == nil {
		return DiskRoomy
	}
	return FillOf(*s.DiskUsed, s.Disk.Limit)
}

// DiskWarning says what the workspace's files want its owner to know, "" while
// there is room.
func (s LimitState) DiskWarning() string {
	switch s.DiskFill() {
	case DiskOver:
		return fmt.Sprintf("Its files take %s, more than the %s that they may: nothing can be written until enough of them are deleted, or more is allowed.", Size(*s.DiskUsed), Size(s.Disk.Limit))
	case DiskFull:
		return fmt.Sprintf("Its files take all of the %s that they may: next to nothing can be written until some of them are deleted, or more is allowed.", Size(s.Disk.Limit))
	case DiskTight:
		return fmt.Sprintf("Its files take %d %% of the %s that they may: delete some of them, or allow more, before nothing can be written.", *s.DiskUsed*100/s.Disk.Limit, Size(s.Disk.Limit))
	}
	return ""
}

// State explains limits in a VM of this capacity.
func (c Capacity) State(l Limits) LimitState {
	d, of := c.Defaults(), c.Of(l)
	return LimitState{
		Set:    l,
		Memory: LimitRange{Limit: of.Memory, Default: d.Memory, Min: MinMemory, Max: c.Memory},
		Disk:   LimitRange{Limit: of.Disk, Default: d.Disk, Min: MinDisk, Max: c.Disk},
	}
}

// Shortage is what the kernel did to a workspace, or to a process of it, because
// memory was used up: the last time since its owner started it.
type Shortage struct {
	Message string // a sentence for the user, "" when there was none
	At      time.Time
}

// MemoryKills are the processes of a container that the kernel ended because
// memory was used up, in its present life, or in its last one when it has ended.
type MemoryKills struct {
	Since     time.Time // when that life began
	Processes int       // while it runs
	Own       int       // how often the container had used all of its own limit, while it runs
	Whole     bool      // it has ended, and not by itself: such a process was its first one, or what that waited for
	Killed    bool      // it has ended because its first process, or what that waited for, was killed, by whomever
	Ended     time.Time // when that life ended; zero while it runs, and when that is not known
}

// SharedMemory is the memory that all workspaces have together.
type SharedMemory struct {
	Limit int64 // bytes; 0 is none, or not known
	Used  int64 // bytes

	Shortages int // how often all of it was used and nothing could be freed
	Kills     int // processes of workspaces that were ended because memory was used up, also of workspaces that have ended
}

// MemoryLimiter sets what running containers may use. It is the part of a
// runtime that changes them while they run.
type MemoryLimiter interface {
	// SetMemory gives a container another limit, at once when it runs. One that
	// does not run gets its limit when it is made for its next start. A runtime
	// that cannot change it is a [CodeConflict].
	SetMemory(ctx context.Context, id string, limit int64) error
	// SharedMemory is read without asking the runtime.
	SharedMemory(ctx context.Context) (SharedMemory, error)
}
