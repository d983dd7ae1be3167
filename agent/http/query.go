package http

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/rockpool/rootvm/agent"
)

// parseQuery decodes the query, strictly.
func parseQuery(r *http.Request) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, agent.Errorf(agent.CodeValidation, "The query of the address does not decode")
	}
	return values, nil
}

// checkQuery refuses parameters that are not in known, parameters given
// twice, and a query that does not decode.
func checkQuery(r *http.Request, known []string) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	values, err := parseQuery(r)
	if err != nil {
		return err
	}

	var fields []agent.Field
	text := ""
	for _, name := range slices.Sorted(maps.Keys(values)) {
		fault, format := "is not a parameter of this route", "Unknown query parameter %q"
		if slices.Contains(known, name) {
			fault, format = "is given more than once", "Query parameter %q is given more than once"
			if len(values[name]) == 1 {
				continue
			}
		}
		if fields == nil {
			text = fmt.Sprintf(format, name)
		}
		fields = append(fields, agent.Field{Path: name, Message: fault})
	}

	if fields == nil {
		return nil
	}
	return &agent.Error{Code: agent.CodeValidation, Message: text, Fields: fields}
}

// invalid is a validation error about one part of the input.
func invalid(path, message string) error {
	return &agent.Error{
		Code:    agent.CodeValidation,
		Message: path + " " + message,
		Fields:  []agent.Field{{Path: path, Message: message}},
	}
}

// number reads a whole number from the query, or returns value when it is not
// there.
func number(q url.Values, name string, value int) (int, error) {
	s := q.Get(name)
	if s == "" {
		return value, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, invalid(name, "must be a whole number")
	}
	return n, nil
}

// boolean reads a truth value from the query; an absent one is false.
func boolean(q url.Values, name string) (bool, error) {
	switch q.Get(name) {
	case "true", "1":
		return true, nil
	case "false", "0", "":
		return false, nil
	}
	return false, invalid(name, "must be true or false")
}
