package http

import (
	"net/http"
	"strings"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// preferenceRoutes are the operations on preferences.
func (s *Server) preferenceRoutes() []route {
	return []route{
		{api.ListPreferences, s.listPreferences},
		{api.GetPreference, s.preference},
		{api.SavePreference, s.savePreference},
	}
}

// preferenceName returns the preference that the path names.
func preferenceName(r *http.Request) (string, error) {
	name := r.PathValue("name")
	if agent.PreferencePath(name) == "" {
		return "", invalid("name", "must be one of "+strings.Join(agent.PreferenceNames(), ", "))
	}
	return name, nil
}

func (s *Server) listPreferences(w http.ResponseWriter, r *http.Request) error {
	stored, err := s.ControlPlane.ListPreferences(r.Context())
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.List(stored, api.FromPreference))
}

func (s *Server) preference(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Query().Has(api.QueryWorkspaceID) {
		return invalid(api.QueryWorkspaceID, "is a parameter of PUT only")
	}
	name, err := preferenceName(r)
	if err != nil {
		return err
	}
	p, err := s.ControlPlane.Preference(r.Context(), name)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.FromPreference(p))
}

// savePreference ignores the body: the content comes from the workspace.
func (s *Server) savePreference(w http.ResponseWriter, r *http.Request) error {
	name, err := preferenceName(r)
	if err != nil {
		return err
	}
	id := r.URL.Query().Get(api.QueryWorkspaceID)
	if id == "" {
		return invalid(api.QueryWorkspaceID, "is required")
	}
	if !agent.ValidID(id) {
		return agent.Errorf(agent.CodeNotFound, "Workspace %q not found", id)
	}
	p, err := s.ControlPlane.SavePreference(r.Context(), name, id)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.FromPreference(p))
}
