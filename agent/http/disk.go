package http

import (
	"net/http"

	"github.com/rockpool/rootvm/agent/api"
)

// diskRoutes are the operations on the disk that workspaces share.
func (s *Server) diskRoutes() []route {
	return []route{{api.GetDisk, s.disk}}
}

func (s *Server) disk(w http.ResponseWriter, r *http.Request) error {
	d, err := s.ControlPlane.Disk(r.Context())
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.FromDisk(d))
}
