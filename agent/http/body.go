package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"unicode/utf8"

	"github.com/rockpool/rootvm/agent"
)

// maxDepth bounds how deep a body's objects and arrays may nest.
const maxDepth = 32

// fields is a JSON object that was read but not understood yet. Reading its
// members one by one gives each fault its name, tells absent from null and
// matches names exactly.
type fields struct {
	members map[string]json.RawMessage
	faults  []agent.Field
}

// readBody reads a request's body, which must be one JSON object.
func readBody(r *http.Request) (*fields, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || kind != "application/json" || charset != "" && !equalFold(charset, "utf-8") {
		return nil, agent.Errorf(agent.CodeUnsupportedMedia, "The body must be JSON: send Content-Type: application/json")
	}
	b, err := readAll(r)
	if err != nil {
		return nil, err
	}
	return decodeObject(b)
}

func equalFold(a, b string) bool { return bytes.EqualFold([]byte(a), []byte(b)) }

// readAll reads a body up to the limit that guard set.
func readAll(r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(r.Body)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, agent.Errorf(agent.CodeTooLarge, "The body is larger than %d bytes", MaxBody)
	}
	if err != nil {
		return nil, agent.Errorf(agent.CodeValidation, "The body did not arrive whole")
	}
	return b, nil
}

// decodeObject takes one JSON object apart.
func decodeObject(b []byte) (*fields, error) {
	if !utf8.Valid(b) {
		return nil, agent.Errorf(agent.CodeValidation, "The body is not UTF-8 text")
	}
	if err := checkDepth(b); err != nil {
		return nil, err
	}
	var f fields
	if err := json.Unmarshal(b, &f.members); err != nil || f.members == nil {
		return nil, agent.Errorf(agent.CodeValidation, "The body must be one JSON object")
	}
	return &f, nil
}

// checkDepth refuses what nests too deep, without decoding it.
func checkDepth(b []byte) error {
	depth := 0
	inString, escaped := false, false
	for _, c := range b {
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped = c == '\\'
			inString = c != '"'
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return agent.Errorf(agent.CodeValidation, "The body nests deeper than %d levels", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// readOnly refuses members that only the agent sets.
func (f *fields) readOnly(names ...string) {
	for _, name := range names {
		if _, ok := f.members[name]; ok {
			f.fault(name, "is read-only")
		}
	}
}

func (f *fields) fault(name, message string) {
	f.faults = append(f.faults, agent.Field{Path: name, Message: message})
}

// member reads one member, which may be absent or null unless it is required.
func member[T any](f *fields, name, kind string, required bool) T {
	var value T
	raw, ok := f.members[name]
	if !ok || string(raw) == "null" {
		if required {
			f.fault(name, "is required")
		}
		return value
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		f.fault(name, "must be "+kind)
	}
	return value
}

func (f *fields) text(name string) string         { return member[string](f, name, "a string", false) }
func (f *fields) requiredText(name string) string { return member[string](f, name, "a string", true) }
func (f *fields) flag(name string) bool           { return member[bool](f, name, "true or false", false) }
func (f *fields) number(name string) int          { return member[int](f, name, "a whole number", true) }

// err returns the faults as one error whose text names the first, and nil when
// there are none.
func (f *fields) err() error {
	if f.faults == nil {
		return nil
	}
	slices.SortStableFunc(f.faults, func(a, b agent.Field) int { return bytes.Compare([]byte(a.Path), []byte(b.Path)) })
	return &agent.Error{
		Code:    agent.CodeValidation,
		Message: fmt.Sprintf("%s %s", f.faults[0].Path, f.faults[0].Message),
		Fields:  f.faults,
	}
}
