package http

import (
	_ "embed"
	"net/http"
)

// openAPI is the description of every route under /api.
//
//go:embed openapi.json
var openAPI []byte

// openAPI serves the description.
func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(openAPI)
	return nil
}
