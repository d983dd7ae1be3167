package http

import (
	"time"

	"github.com/rockpool/rootvm/agent"
)

// instant is a time as clients see it: RFC 3339 in UTC, with milliseconds.
type instant time.Time

const instantLayout = `"2006-01-02T15:04:05.000Z"`

// MarshalJSON writes null for the zero time.
func (t instant) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return time.Time(t).UTC().AppendFormat(nil, instantLayout), nil
}

// optional is null for the zero value.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// list maps a slice to one that is never null.
func list[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = f(a)
	}
	return out
}

type workspaceShape struct {
	ID            string       `json:"id"`
	Name          string       `json:"name"`
	Status        agent.Status `json:"status"`
	Image         string       `json:"image"`
	Description   *string      `json:"description"`
	RepositoryID  *string      `json:"repositoryId"`
	VMIP          *string      `json:"vmIp"`
	ContainerIP   *string      `json:"containerIp"`
	ErrorMessage  *string      `json:"errorMessage"`
	AutoSyncPrefs bool         `json:"autoSyncPrefs"`
	CreatedAt     instant      `json:"createdAt"`
	UpdatedAt     instant      `json:"updatedAt"`
}

func shapeWorkspace(w agent.Workspace) workspaceShape {
	return workspaceShape{
		ID:            w.ID,
		Name:          w.Name,
		Status:        w.Status,
		Image:         w.Image,
		Description:   optional(w.Description),
		RepositoryID:  optional(w.RepositoryID),
		VMIP:          optional(w.Address),
		ContainerIP:   optional(w.Address),
		ErrorMessage:  optional(w.ErrorMessage),
		AutoSyncPrefs: w.AutoSyncPrefs,
		CreatedAt:     instant(w.CreatedAt),
		UpdatedAt:     instant(w.UpdatedAt),
	}
}

type workspaceList struct {
	Items      []workspaceShape `json:"items"`
	NextCursor string           `json:"nextCursor,omitempty"`
}

type portShape struct {
	WorkspaceID string  `json:"workspaceId"`
	Port        int     `json:"port"`
	Label       *string `json:"label"`
	CreatedAt   instant `json:"createdAt"`
}

func shapePort(p agent.Port) portShape {
	return portShape{WorkspaceID: p.WorkspaceID, Port: p.Port, Label: optional(p.Label), CreatedAt: instant(p.CreatedAt)}
}

type preferenceShape struct {
	Name      string  `json:"name"`
	Blob      string  `json:"blob"`
	UpdatedAt instant `json:"updatedAt"`
}

func shapePreference(p agent.Preference) preferenceShape {
	return preferenceShape{Name: p.Name, Blob: p.Blob, UpdatedAt: instant(p.UpdatedAt)}
}

type stepShape struct {
	WorkspaceID string          `json:"workspaceId"`
	Job         agent.JobKind   `json:"job"`
	Name        string          `json:"name"`
	Title       string          `json:"title"`
	State       agent.StepState `json:"state"`
	StartedAt   instant         `json:"startedAt"`
	EndedAt     instant         `json:"endedAt"`
	Message     *string         `json:"message"`
}

func shapeStep(s agent.Step) stepShape {
	return stepShape{
		WorkspaceID: s.WorkspaceID,
		Job:         s.Job,
		Name:        s.Name,
		Title:       s.Title,
		State:       s.State,
		StartedAt:   instant(s.StartedAt),
		EndedAt:     instant(s.EndedAt),
		Message:     optional(s.Message),
	}
}

type usageShape struct {
	CPU         float64 `json:"cpu"`
	Memory      int64   `json:"memory"`
	MemoryLimit int64   `json:"memoryLimit"`
	Pids        int     `json:"pids"`
}

// eventShape is the data of a server-sent event.
type eventShape struct {
	WorkspaceID *string         `json:"workspaceId"`
	Workspace   *workspaceShape `json:"workspace"`
	Step        *stepShape      `json:"step"`
	Name        *string         `json:"name"`
	At          instant         `json:"at"`
}

func shapeEvent(e agent.Event) eventShape {
	shape := eventShape{WorkspaceID: optional(e.WorkspaceID), Name: optional(e.Name), At: instant(e.At)}
	if e.Workspace != nil {
		w := shapeWorkspace(*e.Workspace)
		shape.Workspace = &w
	}
	if e.Step != nil {
		s := shapeStep(*e.Step)
		shape.Step = &s
	}
	return shape
}

// repositoryShape has the names that GitHub's own API uses.
type repositoryShape struct {
	FullName      string  `json:"full_name"`
	Owner         string  `json:"owner"`
	OwnerType     string  `json:"owner_type"`
	OwnerAvatar   string  `json:"owner_avatar"`
	Description   *string `json:"description"`
	Private       bool    `json:"private"`
	DefaultBranch string  `json:"default_branch"`
	UpdatedAt     instant `json:"updated_at"`
}

func shapeRepository(r agent.Repository) repositoryShape {
	return repositoryShape{
		FullName:      r.FullName,
		Owner:         r.Owner,
		OwnerType:     r.OwnerType,
		OwnerAvatar:   r.OwnerAvatar,
		Description:   optional(r.Description),
		Private:       r.Private,
		DefaultBranch: r.DefaultBranch,
		UpdatedAt:     instant(r.UpdatedAt),
	}
}

type repositoryList struct {
	Items      []repositoryShape `json:"items"`
	TotalCount *int              `json:"total_count,omitempty"` // of a search
	NextPage   *int              `json:"next_page"`
}
