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
	GetLogs         = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}/logs", Query: []string{QueryFollow, QueryTail, QuerySource}}
)

// Workspace is an [agent.Workspace]. The address is there twice, for clients
// that look in either place.
type Workspace struct {
	ID            string       `json:"id"`
	Name          string       `json:"name"`
	Status        agent.Status `json:"status"`
	Image         string       `json:"image"`
	Description   Text         `json:"description"`
	RepositoryID  Text         `json:"repositoryId"`
	VMIP          Text         `json:"vmIp"`
	ContainerIP   Text         `json:"containerIp"`
	ErrorMessage  Text         `json:"errorMessage"`
	AutoSyncPrefs bool         `json:"autoSyncPrefs"`
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
		Description:   Text(w.Description),
		RepositoryID:  Text(w.RepositoryID),
		VMIP:          Text(w.Address),
		ContainerIP:   Text(w.Address),
		ErrorMessage:  Text(w.ErrorMessage),
		AutoSyncPrefs: w.AutoSyncPrefs,
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
		Description:   string(w.Description),
		RepositoryID:  string(w.RepositoryID),
		AutoSyncPrefs: w.AutoSyncPrefs,
		Address:       string(w.VMIP),
		ErrorMessage:  string(w.ErrorMessage),
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
	return []string{"id", "status", "vmIp", "containerIp", "errorMessage", "createdAt", "updatedAt"}
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
