package http

import (
	_ "embed"
	"net/http"

	"github.com/rockpool/rootvm/agent/api"
)

// document is the description of every route under /api.
//
//go:embed openapi.json
var document []byte

// openAPI serves the description.
func openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", api.TypeJSON+"; charset=utf-8")
	_, _ = w.Write(document)
	return nil
}
