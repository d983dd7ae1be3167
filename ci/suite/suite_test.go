package suite_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/ci/suite"
	"github.com/rockpool/rootvm/host/preflight"
)

// TestSetupE2E: a browser of any name is enough, and Ubuntu's users hear of
// the snap before apt-get fails.
func TestSetupE2E(t *testing.T) {
	have := func(names ...string) func(string) (string, error) {
		return func(name string) (string, error) {
			for _, n := range names {
				if n == name {
					return "/usr/bin/" + name, nil
				}
			}
			return "", errors.New("not found")
		}
	}

	var programs []string
	for _, n := range append(preflight.Building(), preflight.Browser()...) {
		if n.Program != "chromium" {
			programs = append(programs, n.Program)
		}
	}

	s := suite.Suite{Getenv: func(string) string { return "" }, Out: io.Discard}
	s.Packages = preflight.Host{Needs: preflight.Building(), Exists: func(string) bool { return true }, LookPath: have(append(programs, "google-chrome")...)}
	if err := s.SetupE2E(context.Background()); err != nil {
		t.Error(err)
	}

	s.Packages.LookPath = have(programs...)
	if err := s.SetupE2E(context.Background()); err == nil || !strings.Contains(err.Error(), "snap install chromium") {
		t.Errorf("error = %v", err)
	}
}
