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
		{api.RemovePreference, s.removePreference},
		{api.ListPreferenceNotes, s.listPreferenceNotes},
		{api.GetPreferenceDifference, s.preferenceDifference},
		{api.ResolvePreference, s.resolvePreference},
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

// noQuery refuses the parameters that only a PUT of the same path takes.
func noQuery(r *http.Request) error {
	for _, name := range api.SavePreference.Query {
		if r.URL.Query().Has(name) {
			return invalid(name, "is a parameter of PUT only")
		}
	}
	return nil
}

func (s *Server) listPreferences(w http.ResponseWriter, r *http.Request) error {
	stored, err := s.ControlPlane.ListPreferences(r.Context())
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.List(stored, api.FromPreference))
}

func (s *Server) preference(w http.ResponseWriter, r *http.Request) error {
	if err := noQuery(r); err != nil {
		return err
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
	p, err := s.ControlPlane.SavePreference(r.Context(), name, id, r.URL.Query().Get(api.QueryConfirm))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.FromPreference(p))
}

func (s *Server) removePreference(w http.ResponseWriter, r *http.Request) error {
	if err := noQuery(r); err != nil {
		return err
	}
	name, err := preferenceName(r)
	if err != nil {
		return err
	}
	if err := s.ControlPlane.RemovePreference(r.Context(), name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) listPreferenceNotes(w http.ResponseWriter, r *http.Request) error {
	id := r.URL.Query().Get(api.QueryWorkspaceID)
	if id != "" && !agent.ValidID(id) {
		return agent.Errorf(agent.CodeNotFound, "Workspace %q not found", id)
	}
	notes, err := s.ControlPlane.PreferenceNotes(r.Context(), id)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.List(notes, api.FromPreferenceNote))
}

// copyName returns the workspace and the preference that the path names.
func copyName(r *http.Request) (id, name string, err error) {
	if id, err = workspaceID(r); err == nil {
		name, err = preferenceName(r)
	}
	return id, name, err
}

func (s *Server) preferenceDifference(w http.ResponseWriter, r *http.Request) error {
	id, name, err := copyName(r)
	if err != nil {
		return err
	}
	d, err := s.ControlPlane.PreferenceDifference(r.Context(), id, name)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.FromPreferenceDifference(d))
}

func (s *Server) resolvePreference(w http.ResponseWriter, r *http.Request) error {
	id, name, err := copyName(r)
	if err != nil {
		return err
	}
	f, err := readBody(r)
	if err != nil {
		return err
	}
	body := decode[api.PreferenceResolution](f)
	if err := f.err(); err != nil {
		return err
	}
	if body.Confirm == "" {
		return invalid("confirm", "must be the digest of the difference")
	}
	if err := s.ControlPlane.ResolvePreference(r.Context(), id, name, agent.PreferenceChoice(body.Choice), body.Confirm); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
