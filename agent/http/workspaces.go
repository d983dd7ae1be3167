package http

import (
	"net/http"
	"strconv"

	"github.com/rockpool/rootvm/agent"
)

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
	limit, err := number(q, "limit", agent.DefaultPageSize)
	if err != nil {
		return err
	}
	after, err := agent.DecodeCursor(q.Get("cursor"))
	if err != nil {
		return err
	}
	items, next, err := s.ControlPlane.ListWorkspaces(r.Context(), after, agent.PageSize(limit))
	if err != nil {
		return err
	}
	s.json(w, http.StatusOK, workspaceList{Items: list(items, shapeWorkspace), NextCursor: next.Encode()})
	return nil
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
	w.Header().Set("Location", "/api/workspaces/"+created.ID)
	s.json(w, http.StatusCreated, shapeWorkspace(created))
	return nil
}

// newWorkspace reads the body of a request for a workspace.
func newWorkspace(f *fields) (agent.NewWorkspace, error) {
	f.readOnly("id", "status", "vmIp", "containerIp", "errorMessage", "createdAt", "updatedAt")
	n := agent.NewWorkspace{
		Name:          f.requiredText("name"),
		Image:         f.requiredText("image"),
		Description:   f.text("description"),
		RepositoryID:  f.text("repositoryId"),
		AutoSyncPrefs: f.flag("autoSyncPrefs"),
		Token:         f.text("token"),
	}
	if err := f.err(); err != nil {
		return n, err
	}
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
	s.json(w, http.StatusOK, shapeWorkspace(found))
	return nil
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
	s.json(w, http.StatusOK, shapeWorkspace(changed))
	return nil
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
	s.json(w, http.StatusOK, shapeWorkspace(changed))
	return nil
}

func (s *Server) steps(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	steps, err := s.ControlPlane.Steps(r.Context(), id)
	if err != nil {
		return err
	}
	s.json(w, http.StatusOK, list(steps, shapeStep))
	return nil
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
	s.json(w, http.StatusOK, usageShape{CPU: u.CPU, Memory: u.Memory, MemoryLimit: u.MemoryLimit, Pids: u.Pids})
	return nil
}

func (s *Server) listPorts(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	ports, err := s.ControlPlane.ListPorts(r.Context(), id)
	if err != nil {
		return err
	}
	s.json(w, http.StatusOK, list(ports, shapePort))
	return nil
}

func (s *Server) addPort(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	f, err := readBody(r)
	if err != nil {
		return err
	}
	n, err := newPort(f)
	if err != nil {
		return err
	}
	added, err := s.ControlPlane.AddPort(r.Context(), id, n)
	if err != nil {
		return err
	}
	s.json(w, http.StatusCreated, shapePort(added))
	return nil
}

// newPort reads the body of a request for a port.
func newPort(f *fields) (agent.NewPort, error) {
	f.readOnly("workspaceId", "createdAt")
	n := agent.NewPort{Port: f.number("port"), Label: f.text("label")}
	if err := f.err(); err != nil {
		return n, err
	}
	return n, n.Validate()
}

func (s *Server) removePort(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(r.PathValue("port"))
	if err != nil {
		return invalid("port", "must be a number from 1024 to 65535")
	}
	if err := s.ControlPlane.RemovePort(r.Context(), id, port); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
