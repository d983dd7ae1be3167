package http

import (
	"net/http"

	"github.com/rockpool/rootvm/agent/api"
)

// imageRoutes are the operations on the image that a workspace is made from.
func (s *Server) imageRoutes() []route {
	return []route{{api.GetImage, s.image}, {api.ChangeImage, s.changeImage}}
}

func (s *Server) image(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	change, err := s.ControlPlane.ImageChange(r.Context(), id)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.FromImage(change))
}

func (s *Server) changeImage(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	f, err := readBody(r)
	if err != nil {
		return err
	}
	body := decode[api.NewImage](f)
	if err := f.err(); err != nil {
		return err
	}
	changed, err := s.ControlPlane.ChangeImage(r.Context(), id, body.Digest)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.FromWorkspace(changed))
}
