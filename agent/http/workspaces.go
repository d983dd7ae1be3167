package http

import (
	"net/http"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// workspaceRoutes are the operations on workspaces.
func (s *Server) workspaceRoutes() []route {
	return []route{
		{api.ListWorkspaces, s.listWorkspaces},
		{api.CreateWorkspace, s.createWorkspace},
		{api.GetWorkspace, s.workspace},
		{api.DeleteWorkspace, s.deleteWorkspace},
		{api.StartWorkspace, s.startWorkspace},
		{api.StopWorkspace, s.stopWorkspace},
		{api.ListSteps, s.listSteps},
		{api.GetUsage, s.usage},
		{api.GetLimits, s.limits},
		{api.SetLimits, s.setLimits},
		{api.GetLogs, s.logs},
	}
}

// workspaceID returns the id in the path. What cannot be one is not found.
func workspaceID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if !agent.ValidID(id) {
		return "", agent.Errorf(agent.CodeNotFound, "Workspace %q not found", id)
	}
	return id, nil
}

func (s *Server) listWorkspaces(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit, err := number(q, api.QueryLimit, agent.DefaultPageSize)
	if err != nil {
		return err
	}
	after, err := agent.DecodeCursor(q.Get(api.QueryCursor))
	if err != nil {
		return err
	}
	items, next, err := s.ControlPlane.ListWorkspaces(r.Context(), after, agent.PageSize(limit))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.WorkspaceList{Items: api.List(items, api.FromWorkspace), NextCursor: next.Encode()})
}

func (s *Server) createWorkspace(w http.ResponseWriter, r *http.Request) error {
	f, err := readBody(r)
	if err != nil {
		return err
	}
	n, err := newWorkspace(f)
	if err != nil {
		return err
	}
	created, err := s.ControlPlane.CreateWorkspace(r.Context(), n)
	if err != nil {
		return err
	}
	w.Header().Set("Location", api.GetWorkspace.Path(created.ID))
	return api.WriteJSON(w, http.StatusCreated, api.FromWorkspace(created))
}

// newWorkspace reads the body of a request for a workspace.
func newWorkspace(f *fields) (agent.NewWorkspace, error) {
	body := decode[api.NewWorkspace](f)
	if err := f.err(); err != nil {
		return agent.NewWorkspace{}, err
	}
	n := agent.NewWorkspace(body)
	return n, n.Validate()
}

func (s *Server) workspace(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	found, err := s.ControlPlane.Workspace(r.Context(), id)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.FromWorkspace(found))
}

func (s *Server) deleteWorkspace(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	if err := s.ControlPlane.DeleteWorkspace(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) startWorkspace(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	changed, err := s.ControlPlane.StartWorkspace(r.Context(), id)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.FromWorkspace(changed))
}

func (s *Server) stopWorkspace(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	changed, err := s.ControlPlane.StopWorkspace(r.Context(), id)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.FromWorkspace(changed))
}

func (s *Server) listSteps(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	steps, err := s.ControlPlane.Steps(r.Context(), id)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.List(steps, api.FromStep))
}

func (s *Server) usage(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	u, err := s.ControlPlane.Usage(r.Context(), id)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.Usage(u))
}

func (s *Server) limits(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	l, err := s.ControlPlane.Limits(r.Context(), id)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.FromLimits(l))
}

func (s *Server) setLimits(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	f, err := readBody(r)
	if err != nil {
		return err
	}
	body := decode[api.NewLimits](f)
	if err := f.err(); err != nil {
		return err
	}
	l, err := s.ControlPlane.SetLimits(r.Context(), id, body.Domain())
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.FromLimits(l))
}
