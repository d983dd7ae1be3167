package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  []string
		stdin string
		code  int
		says  string
	}{
		{"nothing", nil, "", 2, "usage: workspace-image build"},
		{"unknown", []string{"x"}, "", 2, "usage"},
		{"no request", []string{"build"}, "", 1, "read the request"},
		{"unknown field", []string{"build"}, `{"specs":{}}`, 1, "unknown field"},
		{"faults", []string{"build"}, `{"spec":{"suite":"sid","platforms":["linux/s390x"]}}`, 1, "linux/s390x"},
	} {
		var out, err bytes.Buffer
		code := run(t.Context(), c.args, strings.NewReader(c.stdin), &out, &err)
		if code != c.code || !strings.Contains(err.String(), c.says) || out.Len() > 0 {
			t.Errorf("%s: code %d, want %d; said %q", c.name, code, c.code, err.String())
		}
	}
}
