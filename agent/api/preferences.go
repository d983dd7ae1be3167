package api

import (
	"net/http"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// The operations on preferences.
var (
	ListPreferences = Operation{Method: http.MethodGet, Pattern: "/api/settings"}
	GetPreference   = Operation{Method: http.MethodGet, Pattern: "/api/settings/{name}"}
	SavePreference  = Operation{Method: http.MethodPut, Pattern: "/api/settings/{name}", Query: []string{QueryWorkspaceID}}
)

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
