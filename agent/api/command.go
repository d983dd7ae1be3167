package api

import (
	"time"

	"github.com/rockpool/rootvm/agent"
)

// WorkspaceLine is a workspace as `rockpool-agent ws … --json` prints it. It
// is not part of the HTTP API: texts that are absent are "", and it has the
// address of the IDE on the host.
type WorkspaceLine struct {
	ID           string       `json:"id"`
	Name         string       `json:"name"`
	Status       agent.Status `json:"status"`
	Image        string       `json:"image"`
	Description  string       `json:"description"`
	RepositoryID string       `json:"repositoryId"`
	Address      string       `json:"address"`
	ErrorMessage string       `json:"errorMessage"`
	Shortage     string       `json:"shortage"`
	URL          string       `json:"url"`
	CreatedAt    time.Time    `json:"createdAt"`
	UpdatedAt    time.Time    `json:"updatedAt"`
}

// LineOf is w with the address of its IDE.
func LineOf(w agent.Workspace, url string) WorkspaceLine {
	return WorkspaceLine{
		ID:           w.ID,
		Name:         w.Name,
		Status:       w.Status,
		Image:        w.Image,
		Description:  w.Description,
		RepositoryID: w.RepositoryID,
		Address:      w.Address,
		ErrorMessage: w.ErrorMessage,
		Shortage:     w.Shortage.Message,
		URL:          url,
		CreatedAt:    w.CreatedAt,
		UpdatedAt:    w.UpdatedAt,
	}
}

// Verdict is how a part of the agent is doing.
type Verdict string

// The verdicts.
const (
	VerdictOK   Verdict = "ok"
	VerdictWarn Verdict = "warn"
	VerdictFail Verdict = "fail"
)

// Finding is what `rockpool-agent doctor` found about one part, and what to do
// about it.
type Finding struct {
	Part    string  `json:"part"`
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`
	Do      string  `json:"do,omitempty"`
}
