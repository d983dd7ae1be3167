package api

import (
	"net/http"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// GetDisk tells who takes what of the disk that workspaces share.
var GetDisk = Operation{Method: http.MethodGet, Pattern: "/api/disk"}

// Disk is an [agent.DiskState].
type Disk struct {
	Size       int64       `json:"size"`
	Free       int64       `json:"free"`
	Workspaces []DiskShare `json:"workspaces"`
	Orphans    []DiskShare `json:"orphans"`
	Images     []DiskImage `json:"images"`
	Rest       int64       `json:"rest"`
	At         Time        `json:"at"`
}

// DiskShare is an [agent.DiskShare].
type DiskShare struct {
	ID    string `json:"id"`
	Name  Text   `json:"name"` // null for files without a workspace
	Used  int64  `json:"used"`
	Limit int64  `json:"limit"`
}

// DiskImage is an [agent.ImageUsage].
type DiskImage struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// FromDisk is d on the wire.
func FromDisk(d agent.DiskState) Disk {
	share := func(s agent.DiskShare) DiskShare {
		return DiskShare{ID: s.ID, Name: Text(s.Name), Used: s.Used, Limit: s.Limit}
	}
	return Disk{
		Size:       d.Size,
		Free:       d.Free,
		Workspaces: List(d.Workspaces, share),
		Orphans:    List(d.Orphans, share),
		Images:     List(d.Images, func(i agent.ImageUsage) DiskImage { return DiskImage(i) }),
		Rest:       d.Rest,
		At:         Time(d.At),
	}
}

// Domain is the state that d stands for.
func (d Disk) Domain() agent.DiskState {
	share := func(s DiskShare) agent.DiskShare {
		return agent.DiskShare{ID: s.ID, Name: string(s.Name), Used: s.Used, Limit: s.Limit}
	}
	return agent.DiskState{
		Size:       d.Size,
		Free:       d.Free,
		Workspaces: List(d.Workspaces, share),
		Orphans:    List(d.Orphans, share),
		Images:     List(d.Images, func(i DiskImage) agent.ImageUsage { return agent.ImageUsage(i) }),
		Rest:       d.Rest,
		At:         time.Time(d.At),
	}
}
