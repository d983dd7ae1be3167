package browser

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestChromium(t *testing.T) {
	have := func(names ...string) func(string) (string, error) {
		return func(name string) (string, error) {
			for _, n := range names {
				if n == name {
					return "/bin/" + name, nil
				}
			}
			return "", errors.New("not found")
		}
	}

	for _, tt := range []struct {
		env  string
		have []string
		want string // "" is an error
	}{
		{"", []string{"google-chrome", "chromium"}, "/bin/chromium"},
		{"", []string{"google-chrome"}, "/bin/google-chrome"},
		{"mine", []string{"mine", "chromium"}, "/bin/mine"},
		{"gone", []string{"chromium"}, ""},
		{"", nil, ""},
	} {
		got, err := Chromium(func(string) string { return tt.env }, have(tt.have...))
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
	}
}

func TestSuite_control(t *testing.T) {
	s := Suite{Machine: Machine{
		RestartAgent: func(context.Context) error { return errors.New("it does not start") },
		Exec:         func(_ context.Context, script string) (string, error) { return "ran " + script, nil },
	}}

	address, stopControl, err := s.control(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	defer stopControl()
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/exec":          {200, "ran true"},
		"/restart-agent": {500, "it does not start"},
		"/reboot":        {404, "404 page not found"},
	} {
		res, err := http.Post(address+path, "text/plain", strings.NewReader("true"))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != want.status || strings.TrimSpace(string(b)) != want.body {
			t.Errorf("%s: %d %q", path, res.StatusCode, b)
		}
	}
}
