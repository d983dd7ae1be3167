package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want string // on stderr
		told string // the line for the caller
	}{
		{nil, 2, "usage", ""},
		{[]string{"dance", "x"}, 2, "usage", ""},
		{[]string{"attach", t.TempDir()}, 1, "no such instance", `{"error":`},
	} {
		var ready, stderr bytes.Buffer
		if code := run(t.Context(), tt.args, &ready, &stderr); code != tt.code {
			t.Errorf("%q: code %d, want %d", tt.args, code, tt.code)
		}
		if !strings.Contains(stderr.String(), tt.want) || !strings.HasPrefix(ready.String(), tt.told) {
			t.Errorf("%q: stderr %q, told %q", tt.args, stderr.String(), ready.String())
		}
	}
}
