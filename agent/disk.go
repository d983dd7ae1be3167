package agent

import "time"

// DiskFill is how full something is of what it may take, or of what there is.
type DiskFill int

// The fills, from room to none.
const (
	DiskRoomy DiskFill = iota
	DiskTight          // 80 % and more: a warning is due
	DiskFull           // next to nothing can be written
	DiskOver           // more than allowed, as after the quota was lowered: nothing can be written
)

// fullMargin is how little is left, in bytes, when a file system begins to refuse
// what is written: it asks for room before it knows how much is needed.
const fullMargin = 16 << 20

// FillOf tells how full used bytes make a limit. Without a limit there is room.
func FillOf(used, limit int64) DiskFill {
	switch {
	case limit <= 0:
		return DiskRoomy
	case used > limit:
		return DiskOver
	case limit-used < fullMargin:
		return DiskFull
	case used/4 >= limit/5: // 80 %
		return DiskTight
	}
	return DiskRoomy
}

// DiskState is who takes what of the disk that workspaces share.
type DiskState struct {
	Size, Free int64        // bytes
	Workspaces []DiskShare  // those that take the most first
	Orphans    []DiskShare  // files without a workspace, which are left alone
	Images     []ImageUsage // those that take the most first
	Rest       int64        // bytes of the file system's own, and of what is counted nowhere else
	At         time.Time    // when it was looked at
}

// DiskShare is what the files of one workspace take.
type DiskShare struct {
	ID, Name    string // Name is "" for an orphan
	Used, Limit int64  // bytes
}

// Fill is how full the whole disk is.
func (d DiskState) Fill() DiskFill { return FillOf(d.Size-d.Free, d.Size) }

// ImagesSize is what all images take together, bytes.
func (d DiskState) ImagesSize() (n int64) {
	for _, i := range d.Images {
		n += i.Size
	}
	return n
}

// FilesSize is what all files of workspaces take together, bytes.
func (d DiskState) FilesSize() (n int64) {
	for _, s := range d.Workspaces {
		n += s.Used
	}
	for _, s := range d.Orphans {
		n += s.Used
	}
	return n
}
