package http

import (
	"errors"
	"net/http"
	"strings"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// statuses is the one table from error code to HTTP status.
var statuses = map[string]int{
	agent.CodeValidation:       http.StatusBadRequest,
	agent.CodeUnauthorized:     http.StatusUnauthorized,
	agent.CodeForbidden:        http.StatusForbidden,
	agent.CodeNotFound:         http.StatusNotFound,
	agent.CodeMethodNotAllowed: http.StatusMethodNotAllowed,
	agent.CodeConflict:         http.StatusConflict,
	agent.CodeUnusableFile:     http.StatusConflict,
	agent.CodeTooLarge:         http.StatusRequestEntityTooLarge,
	agent.CodeUnsupportedMedia: http.StatusUnsupportedMediaType,
	agent.CodeTooMany:          http.StatusTooManyRequests,
	agent.CodeInternal:         http.StatusInternalServerError,
	agent.CodeUnavailable:      http.StatusServiceUnavailable,
	agent.CodeNoSpace:          http.StatusInsufficientStorage,
}

// fail answers with err. What is not an [agent.Error] goes to the log and is
// told as an internal error without its text. An answer that has begun cannot
// be taken back: the connection is cut, so that nobody takes it for whole.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e, known := errors.AsType[*agent.Error](err)
	known = known && statuses[e.Code] != 0
	if rec, ok := w.(*recorder); ok {
		if !known {
			rec.err = err
		}
		if rec.status != 0 {
			rec.err, rec.cut = err, true
			return
		}
	}

	if !known {
		e = agent.Errorf(agent.CodeInternal, "Something went wrong. The agent's log has the details.")
	}
	status := statuses[e.Code]
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	if err := api.WriteJSON(w, status, api.FromError(e, status)); err != nil {
		s.Log.Error("cannot answer", "err", err)
	}
}

// orFail fails with what an answer returned, if it is a fault.
func (s *Server) orFail(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		s.fail(w, r, err)
	}
}

// notFound answers for a path nobody serves: JSON under the dashboard's /api,
// else a page.
func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	if !api.ToDashboard(r) {
		s.orFail(w, r, s.Gateway.NoWorkspace(w, r))
		return
	}
	if r.URL.Path == "/api" || strings.HasPrefix(r.URL.Path, "/api/") {
		s.fail(w, r, agent.Errorf(agent.CodeNotFound, "Route %s %s not found", r.Method, r.URL.Path))
		return
	}
	s.orFail(w, r, s.Gateway.NotFound(w, r))
}
