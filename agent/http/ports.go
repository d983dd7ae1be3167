package http

import (
	"net/http"
	"strconv"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// portRoutes are the operations on ports.
func (s *Server) portRoutes() []route {
	return []route{
		{api.ListPorts, s.listPorts},
		{api.AddPort, s.addPort},
		{api.RemovePort, s.removePort},
		{api.Listening, s.listening},
	}
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
	return api.WriteJSON(w, http.StatusOK, api.List(ports, api.FromPort))
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
	return api.WriteJSON(w, http.StatusCreated, api.FromPort(added))
}

// newPort reads the body of a request for a port.
func newPort(f *fields) (agent.NewPort, error) {
	body := decode[api.NewPort](f)
	if err := f.err(); err != nil {
		return agent.NewPort{}, err
	}
	n := agent.NewPort(body)
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

func (s *Server) listening(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	all, err := s.ControlPlane.Listening(r.Context(), id)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.List(all, api.FromListener))
}
