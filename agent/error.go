package agent

import (
	"errors"
	"fmt"
)

// The codes of [Error]. They are part of the API: package http maps each to a
// status, and clients tell faults apart by them.
const (
	CodeValidation       = "validation_error"
	CodeUnauthorized     = "unauthorized"
	CodeForbidden        = "forbidden"
	CodeNotFound         = "not_found"
	CodeMethodNotAllowed = "method_not_allowed"
	CodeConflict         = "conflict"
	CodeTooLarge         = "payload_too_large"
	CodeUnsupportedMedia = "unsupported_media_type"
	CodeTooMany          = "too_many_requests" // of wrong passwords
	CodeInternal         = "internal_error"
	CodeUnavailable      = "unavailable"          // what is needed does not answer now: the runtime, the database
	CodeUnusableFile     = "unusable_file"        // something of the user's is where a file has to be written
	CodeNoSpace          = "insufficient_storage" // a disk is full
)

// Error is a fault whose text is meant for the user. Anything that is not an
// Error is internal: it is logged, and the user is told only that much.
type Error struct {
	Code    string
	Message string  // a sentence for the user, without secrets
	Fields  []Field // what is wrong with which part of the input, if that is it

	Difference *PreferenceDifference // what has to be looked at and confirmed, if that is it
}

// Field is a fault in one part of a request.
type Field struct {
	Path    string `json:"path"`
	Message string `json:"message"`
}

// Error returns the message alone: the code is for programs.
func (e *Error) Error() string { return e.Message }

// Errorf makes an Error.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// ErrorCode returns the code of the first Error in err's chain,
// [CodeInternal] when there is none, and "" for nil.
func ErrorCode(err error) string {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}
