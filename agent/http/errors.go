package http

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

// statuses is the one table from error code to HTTP status.
var statuses = map[string]int{
	agent.CodeValidation:       http.StatusBadRequest,
	agent.CodeUnauthorized:     http.StatusUnauthorized,
	agent.CodeForbidden:        http.StatusForbidden,
	agent.CodeNotFound:         http.StatusNotFound,
	agent.CodeMethodNotAllowed: http.StatusMethodNotAllowed,
	agent.CodeConflict:         http.StatusConflict,
	agent.CodeTooLarge:         http.StatusRequestEntityTooLarge,
	agent.CodeUnsupportedMedia: http.StatusUnsupportedMediaType,
	agent.CodeInternal:         http.StatusInternalServerError,
	agent.CodeUnavailable:      http.StatusServiceUnavailable,
	agent.CodeNoSpace:          http.StatusInsufficientStorage,
}

// errorBody is the shape of every error. Message is there twice for clients
// that look in either place.
type errorBody struct {
	Error   errorDetail `json:"error"`
	Message string      `json:"message"`
	Status  int         `json:"status"`
}

type errorDetail struct {
	Code    string        `json:"code"`
	Message string        `json:"message"`
	Fields  []agent.Field `json:"fields,omitempty"`
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
	s.json(w, status, errorBody{
		Error:   errorDetail{Code: e.Code, Message: e.Message, Fields: e.Fields},
		Message: e.Message,
		Status:  status,
	})
}

func (s *Server) json(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		s.Log.Error("encode answer", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// notFound answers for a path nobody serves: JSON under the dashboard's /api,
// else a page.
func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	if !toDashboard(r) {
		s.noWorkspace(w, r)
		return
	}
	if r.URL.Path == "/api" || strings.HasPrefix(r.URL.Path, "/api/") {
		s.fail(w, r, agent.Errorf(agent.CodeNotFound, "Route %s %s not found", r.Method, r.URL.Path))
		return
	}
	s.page(w, r, http.StatusNotFound, pageNotFound())
}
