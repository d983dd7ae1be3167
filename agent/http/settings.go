package http

import (
	"net/http"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

// settingName returns the preference that the path names.
func settingName(r *http.Request) (string, error) {
	name := r.PathValue("name")
	if agent.PreferencePath(name) == "" {
		return "", invalid("name", "must be one of "+strings.Join(agent.PreferenceNames(), ", "))
	}
	return name, nil
}

func (s *Server) listSettings(w http.ResponseWriter, r *http.Request) error {
	stored, err := s.ControlPlane.ListPreferences(r.Context())
	if err != nil {
		return err
	}
	s.json(w, http.StatusOK, list(stored, shapePreference))
	return nil
}

func (s *Server) setting(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Query().Has("workspaceId") {
		return invalid("workspaceId", "is a parameter of PUT only")
	}
	name, err := settingName(r)
	if err != nil {
		return err
	}
	p, err := s.ControlPlane.Preference(r.Context(), name)
	if err != nil {
		return err
	}
	s.json(w, http.StatusOK, shapePreference(p))
	return nil
}

// saveSetting ignores the body: the content comes from the workspace.
func (s *Server) saveSetting(w http.ResponseWriter, r *http.Request) error {
	name, err := settingName(r)
	if err != nil {
		return err
	}
	id := r.URL.Query().Get("workspaceId")
	if id == "" {
		return invalid("workspaceId", "is required")
	}
	if !agent.ValidID(id) {
		return agent.Errorf(agent.CodeNotFound, "Workspace %q not found", id)
	}
	p, err := s.ControlPlane.SavePreference(r.Context(), name, id)
	if err != nil {
		return err
	}
	s.json(w, http.StatusOK, shapePreference(p))
	return nil
}
