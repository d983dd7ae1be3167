package api

import (
	"time"

	"github.com/rockpool/rootvm/agent"
)

// In bodies a member without omitempty is required, though it may be empty.
// Answers have all their members.

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

// Port is an [agent.Port].
type Port struct {
	WorkspaceID string `json:"workspaceId"`
	Port        int    `json:"port"`
	Label       Text   `json:"label"`
	CreatedAt   Time   `json:"createdAt"`
}

// FromPort is p on the wire.
func FromPort(p agent.Port) Port {
	return Port{WorkspaceID: p.WorkspaceID, Port: p.Port, Label: Text(p.Label), CreatedAt: Time(p.CreatedAt)}
}

// Domain is the port that p stands for.
func (p Port) Domain() agent.Port {
	return agent.Port{WorkspaceID: p.WorkspaceID, Port: p.Port, Label: string(p.Label), CreatedAt: time.Time(p.CreatedAt)}
}

// NewPort is the body of [AddPort].
type NewPort struct {
	Port  int    `json:"port"`
	Label string `json:"label,omitempty"`
}

// ReadOnly are the members of a [Port] that nobody may send.
func (NewPort) ReadOnly() []string { return []string{"workspaceId", "createdAt"} }

// Preference is an [agent.Preference].
type Preference struct {
	Name      string `json:"name"`
	Blob      string `json:"blob"`
	UpdatedAt Time   `json:"updatedAt"`
}

// FromPreference is p on the wire.
func FromPreference(p agent.Preference) Preference {
	return Preference{Name: p.Name, Blob: p.Blob, UpdatedAt: Time(p.UpdatedAt)}
}

// Domain is the preference that p stands for.
func (p Preference) Domain() agent.Preference {
	return agent.Preference{Name: p.Name, Blob: p.Blob, UpdatedAt: time.Time(p.UpdatedAt)}
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

// Acknowledgement is the answer of [Ping] and of a logout.
type Acknowledgement struct {
	Status string `json:"status"` // "ok"
}

// Me is whom Caddy let in.
type Me struct {
	User User `json:"user"`
}

// User is a user. There is one, and its id is 0.
type User struct {
	ID       int    `json:"id"`
	Username string `json:"username"`
}

// Repository is an [agent.Repository], with the names that GitHub's own API
// uses.
type Repository struct {
	FullName      string `json:"full_name"`
	Owner         string `json:"owner"`
	OwnerType     string `json:"owner_type"`
	OwnerAvatar   string `json:"owner_avatar"`
	Description   Text   `json:"description"`
	Private       bool   `json:"private"`
	DefaultBranch string `json:"default_branch"`
	UpdatedAt     Time   `json:"updated_at"`
}

// FromRepository is r on the wire.
func FromRepository(r agent.Repository) Repository {
	return Repository{
		FullName:      r.FullName,
		Owner:         r.Owner,
		OwnerType:     r.OwnerType,
		OwnerAvatar:   r.OwnerAvatar,
		Description:   Text(r.Description),
		Private:       r.Private,
		DefaultBranch: r.DefaultBranch,
		UpdatedAt:     Time(r.UpdatedAt),
	}
}

// RepositoryList is a page of repositories.
type RepositoryList struct {
	Items    []Repository `json:"items"`
	NextPage *int         `json:"next_page"` // null on the last page
}

// RepositorySearch is a page of repositories that were searched for.
type RepositorySearch struct {
	Items      []Repository `json:"items"`
	TotalCount int          `json:"total_count"`
	NextPage   *int         `json:"next_page"` // null on the last page
}

// PageNumber is the number of a page, null for 0.
func PageNumber(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}
