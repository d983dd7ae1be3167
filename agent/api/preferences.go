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
	SavePreference  = Operation{Method: http.MethodPut, Pattern: "/api/settings/{name}", Query: []string{QueryWorkspaceID, QueryConfirm}}

	RemovePreference        = Operation{Method: http.MethodDelete, Pattern: "/api/settings/{name}"}
	ListPreferenceNotes     = Operation{Method: http.MethodGet, Pattern: "/api/settings-notes", Query: []string{QueryWorkspaceID}}
	GetPreferenceDifference = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}/settings/{name}"}
	ResolvePreference       = Operation{Method: http.MethodPost, Pattern: "/api/workspaces/{id}/settings/{name}"}
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

// PreferenceNote is an [agent.PreferenceCopy] that has a note.
type PreferenceNote struct {
	WorkspaceID string                   `json:"workspaceId"`
	Name        string                   `json:"name"`
	Kind        agent.PreferenceNoteKind `json:"kind"`
	Message     string                   `json:"message"`
	NotedAt     Time                     `json:"notedAt"`
}

// FromPreferenceNote is c on the wire.
func FromPreferenceNote(c agent.PreferenceCopy) PreferenceNote {
	return PreferenceNote{WorkspaceID: c.WorkspaceID, Name: c.Name, Kind: c.Kind, Message: c.Message, NotedAt: Time(c.NotedAt)}
}

// Domain is the noted copy that n stands for.
func (n PreferenceNote) Domain() agent.PreferenceCopy {
	note := agent.PreferenceNote{Kind: n.Kind, Message: n.Message, NotedAt: time.Time(n.NotedAt)}
	return agent.PreferenceCopy{WorkspaceID: n.WorkspaceID, Name: n.Name, PreferenceNote: note}
}

// PreferenceDifference is an [agent.PreferenceDifference] and its digest.
type PreferenceDifference struct {
	WorkspaceID string                   `json:"workspaceId"`
	Name        string                   `json:"name"`
	Stored      *string                  `json:"stored"`
	Found       *string                  `json:"found"`
	Kind        agent.PreferenceNoteKind `json:"kind"`
	Message     string                   `json:"message"`
	Programs    []string                 `json:"programs"`
	Digest      string                   `json:"digest"`
}

// FromPreferenceDifference is d on the wire.
func FromPreferenceDifference(d agent.PreferenceDifference) PreferenceDifference {
	return PreferenceDifference{
		WorkspaceID: d.WorkspaceID, Name: d.Name, Stored: fromFile(d.Stored), Found: fromFile(d.Found),
		Kind: d.Kind, Message: d.Message, Programs: append([]string{}, d.Programs...), Digest: d.Digest(),
	}
}

// Domain is the difference that d stands for.
func (d PreferenceDifference) Domain() agent.PreferenceDifference {
	return agent.PreferenceDifference{
		WorkspaceID: d.WorkspaceID, Name: d.Name, Stored: toFile(d.Stored), Found: toFile(d.Found),
		Kind: d.Kind, Message: d.Message, Programs: d.Programs,
	}
}

func fromFile(f agent.File) *string {
	if !f.Exists {
		return nil
	}
	return &f.Content
}

func toFile(content *string) agent.File {
	if content == nil {
		return agent.File{}
	}
	return agent.FileOf(*content)
}

// PreferenceResolution is the body of [ResolvePreference].
type PreferenceResolution struct {
	Choice  string `json:"choice"`
	Confirm string `json:"confirm"`
}
