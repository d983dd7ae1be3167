package api

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/rockpool/rootvm/agent"
)

// Error is the body of every answer that is no success. The message is there
// twice, for clients that look in either place.
type Error struct {
	Error   ErrorDetail `json:"error"`
	Message string      `json:"message"`
	Status  int         `json:"status"`
}

// ErrorDetail is an [agent.Error].
type ErrorDetail struct {
	Code    string        `json:"code"`
	Message string        `json:"message"`
	Fields  []agent.Field `json:"fields,omitempty"`

	Difference *PreferenceDifference `json:"difference,omitempty"`
}

// FromError is e on the wire, with the status of its code.
func FromError(e *agent.Error, status int) Error {
	detail := ErrorDetail{Code: e.Code, Message: e.Message, Fields: e.Fields}
	if e.Difference != nil {
		d := FromPreferenceDifference(*e.Difference)
		detail.Difference = &d
	}
	return Error{Error: detail, Message: e.Message, Status: status}
}

// Domain is the error that e stands for.
func (e Error) Domain() *agent.Error {
	domain := &agent.Error{Code: e.Error.Code, Message: e.Error.Message, Fields: e.Error.Fields}
	if e.Error.Difference != nil {
		d := e.Error.Difference.Domain()
		domain.Difference = &d
	}
	return domain
}

// CrossOrigin is the refusal of a request that another site's page makes.
func CrossOrigin() *agent.Error {
	return agent.Errorf(agent.CodeForbidden, "Requests from other sites are refused")
}

// WriteJSON answers with a shape. On error nothing was written.
func WriteJSON(w http.ResponseWriter, status int, shape any) error {
	b, err := json.Marshal(shape)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", TypeJSON+"; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b) // who asked may have gone
	return nil
}
