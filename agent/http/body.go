package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
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
	if err != nil || kind != api.TypeJSON || charset != "" && !equalFold(charset, "utf-8") {
		return nil, agent.Errorf(agent.CodeUnsupportedMedia, "The body must be JSON: send Content-Type: "+api.TypeJSON)
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

func (f *fields) fault(name, message string) {
	f.faults = append(f.faults, agent.Field{Path: name, Message: message})
}

// readOnly is a shape of a body with members that only the agent sets.
type readOnly interface{ ReadOnly() []string }

// decode reads a shape of package api, member by member. Each may be absent or
// null unless it is required: its tag says so by having no omitempty.
func decode[T any](f *fields) T {
	var shape T
	if s, ok := any(shape).(readOnly); ok {
		for _, name := range s.ReadOnly() {
			if _, sent := f.members[name]; sent {
				f.fault(name, "is read-only")
			}
		}
	}

	value := reflect.ValueOf(&shape).Elem()
	for i := range value.NumField() {
		name, options, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
		f.member(name, options != "omitempty", value.Field(i))
	}
	return shape
}

// member reads one member into a field of a shape.
func (f *fields) member(name string, required bool, to reflect.Value) {
	raw, ok := f.members[name]
	if !ok || string(raw) == "null" {
		if required {
			f.fault(name, "is required")
		}
		return
	}
	if err := json.Unmarshal(raw, to.Addr().Interface()); err != nil {
		f.fault(name, "must be "+kindNames[to.Kind()])
	}
}

// kindNames say what a member must be.
var kindNames = map[reflect.Kind]string{
	reflect.String:  "a string",
	reflect.Bool:    "true or false",
	reflect.Int:     "a whole number",
	reflect.Int64:   "a whole number",
	reflect.Float64: "a number",
}

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
