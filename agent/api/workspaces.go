package api

import (
	"net/http"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// The operations on workspaces.
var (
	ListWorkspaces  = Operation{Method: http.MethodGet, Pattern: "/api/workspaces", Query: []string{QueryLimit, QueryCursor}}
	CreateWorkspace = Operation{Method: http.MethodPost, Pattern: "/api/workspaces"}
	GetWorkspace    = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}"}
	DeleteWorkspace = Operation{Method: http.MethodDelete, Pattern: "/api/workspaces/{id}"}
	StartWorkspace  = Operation{Method: http.MethodPost, Pattern: "/api/workspaces/{id}/start"}
	StopWorkspace   = Operation{Method: http.MethodPost, Pattern: "/api/workspaces/{id}/stop"}
	ListSteps       = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}/steps"}
	GetUsage        = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}/usage"}
	GetLimits       = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}/limits"}
	SetLimits       = Operation{Method: http.MethodPut, Pattern: "/api/workspaces/{id}/limits"}
	GetLogs         = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}/logs", Query: []string{QueryFollow, QueryTail, QuerySource}}
)

// Workspace is an [agent.Workspace]. The address is there twice, for clients
// that look in either place.
type Workspace struct {
	ID            string       `json:"id"`
	Name          string       `json:"name"`
	Status        agent.Status `json:"status"`
	Image         string       `json:"image"`
	ImageDigest   Text         `json:"imageDigest"`
	Description   Text         `json:"description"`
	RepositoryID  Text         `json:"repositoryId"`
	VMIP          Text         `json:"vmIp"`
	ContainerIP   Text         `json:"containerIp"`
	ErrorMessage  Text         `json:"errorMessage"`
	Shortage      Text         `json:"shortage"`
	ShortageAt    Time         `json:"shortageAt"`
	AutoSyncPrefs bool         `json:"autoSyncPrefs"`
	MemoryBytes   int64        `json:"memoryBytes"` // 0 is the default
	DiskBytes     int64        `json:"diskBytes"`   // 0 is the default
	CreatedAt     Time         `json:"createdAt"`
	UpdatedAt     Time         `json:"updatedAt"`
}

// FromWorkspace is w on the wire.
func FromWorkspace(w agent.Workspace) Workspace {
	return Workspace{
		ID:            w.ID,
		Name:          w.Name,
		Status:        w.Status,
		Image:         w.Image,
		ImageDigest:   Text(w.ImageDigest),
		Description:   Text(w.Description),
		RepositoryID:  Text(w.RepositoryID),
		VMIP:          Text(w.Address),
		ContainerIP:   Text(w.Address),
		ErrorMessage:  Text(w.ErrorMessage),
		Shortage:      Text(w.Shortage.Message),
		ShortageAt:    Time(w.Shortage.At),
		AutoSyncPrefs: w.AutoSyncPrefs,
		MemoryBytes:   w.Limits.Memory,
		DiskBytes:     w.Limits.Disk,
		CreatedAt:     Time(w.CreatedAt),
		UpdatedAt:     Time(w.UpdatedAt),
	}
}

// Domain is the workspace that w stands for.
func (w Workspace) Domain() agent.Workspace {
	return agent.Workspace{
		ID:            w.ID,
		Name:          w.Name,
		Status:        w.Status,
		Image:         w.Image,
		ImageDigest:   string(w.ImageDigest),
		Description:   string(w.Description),
		RepositoryID:  string(w.RepositoryID),
		AutoSyncPrefs: w.AutoSyncPrefs,
		Limits:        agent.Limits{Memory: w.MemoryBytes, Disk: w.DiskBytes},
		Address:       string(w.VMIP),
		ErrorMessage:  string(w.ErrorMessage),
		Shortage:      agent.Shortage{Message: string(w.Shortage), At: time.Time(w.ShortageAt)},
		CreatedAt:     time.Time(w.CreatedAt),
		UpdatedAt:     time.Time(w.UpdatedAt),
	}
}

// WorkspaceList is a page of workspaces, newest first.
type WorkspaceList struct {
	Items      []Workspace `json:"items"`
	NextCursor string      `json:"nextCursor,omitempty"` // absent on the last page
}

// NewWorkspace is the body of [CreateWorkspace].
type NewWorkspace struct {
	Name          string `json:"name"`
	Image         string `json:"image"` // "" is the default
	Description   string `json:"description,omitempty"`
	RepositoryID  string `json:"repositoryId,omitempty"`
	AutoSyncPrefs bool   `json:"autoSyncPrefs,omitempty"`
	Token         string `json:"token,omitempty"`
}

// ReadOnly are the members of a [Workspace] that nobody may send.
func (NewWorkspace) ReadOnly() []string {
	return []string{"id", "status", "imageDigest", "vmIp", "containerIp", "errorMessage", "shortage", "shortageAt", "createdAt", "updatedAt"}
}

// Step is an [agent.Step].
type Step struct {
	WorkspaceID string          `json:"workspaceId"`
	Job         agent.JobKind   `json:"job"`
	Name        string          `json:"name"`
	Title       string          `json:"title"`
	State       agent.StepState `json:"state"`
	StartedAt   Time            `json:"startedAt"`
	EndedAt     Time            `json:"endedAt"`
	Message     Text            `json:"message"`
}

// FromStep is s on the wire.
func FromStep(s agent.Step) Step {
	return Step{
		WorkspaceID: s.WorkspaceID,
		Job:         s.Job,
		Name:        s.Name,
		Title:       s.Title,
		State:       s.State,
		StartedAt:   Time(s.StartedAt),
		EndedAt:     Time(s.EndedAt),
		Message:     Text(s.Message),
	}
}

// Domain is the step that s stands for.
func (s Step) Domain() agent.Step {
	return agent.Step{
		WorkspaceID: s.WorkspaceID,
		Job:         s.Job,
		Name:        s.Name,
		Title:       s.Title,
		State:       s.State,
		StartedAt:   time.Time(s.StartedAt),
		EndedAt:     time.Time(s.EndedAt),
		Message:     string(s.Message),
	}
}

// Usage is an [agent.Usage].
type Usage struct {
	CPU         float64 `json:"cpu"`
	Memory      int64   `json:"memory"`
	MemoryLimit int64   `json:"memoryLimit"`
	Pids        int     `json:"pids"`
}

// NewLimits is the body of [SetLimits]. A member that is absent is the default.
type NewLimits struct {
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	DiskBytes   int64 `json:"diskBytes,omitempty"`
}

// Domain are the limits that n stands for.
func (n NewLimits) Domain() agent.Limits {
	return agent.Limits{Memory: n.MemoryBytes, Disk: n.DiskBytes}
}

// Limits is an [agent.LimitState].
type Limits struct {
	MemoryBytes int64      `json:"memoryBytes"` // as set, 0 is the default
	DiskBytes   int64      `json:"diskBytes"`   // as set, 0 is the default
	Memory      LimitRange `json:"memory"`
	Disk        LimitRange `json:"disk"`
	DiskUsed    *int64     `json:"diskUsed"` // bytes; null while there are no files, and while that is not known
	DiskWarning Text       `json:"diskWarning"`
}

// LimitRange is an [agent.LimitRange].
type LimitRange struct {
	Limit   int64 `json:"limit"`
	Default int64 `json:"default"`
	Min     int64 `json:"min"`
	Max     int64 `json:"max"` // 0 while it is not known
}

// FromLimits is l on the wire.
func FromLimits(l agent.LimitState) Limits {
	return Limits{
		MemoryBytes: l.Set.Memory,
		DiskBytes:   l.Set.Disk,
		Memory:      LimitRange(l.Memory),
		Disk:        LimitRange(l.Disk),
		DiskUsed:    l.DiskUsed,
		DiskWarning: Text(l.DiskWarning()),
	}
}

// Domain are the limits that l stands for.
func (l Limits) Domain() agent.LimitState {
	return agent.LimitState{
		Set:      agent.Limits{Memory: l.MemoryBytes, Disk: l.DiskBytes},
		Memory:   agent.LimitRange(l.Memory),
		Disk:     agent.LimitRange(l.Disk),
		DiskUsed: l.DiskUsed,
	}
}
