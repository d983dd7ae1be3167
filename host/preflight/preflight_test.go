package preflight_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/host/preflight"
)

// machine is a host whose apt-get installs what it is asked to.
type machine struct {
	programs map[string]bool
	root     bool
	ran      []string
	broken   bool // apt-get succeeds but installs nothing
}

func (m *machine) host() preflight.Host {
	return preflight.Host{
		Needs: preflight.Building(),
		LookPath: func(name string) (string, error) {
			if m.programs[name] {
				return "/usr/bin/" + name, nil
			}
			return "", errors.New("not found")
		},
		Exists: func(path string) bool { return m.programs[path] },
		Root:   m.root,
		Run: func(_ context.Context, argv []string, _ io.Writer) error {
			m.ran = append(m.ran, strings.Join(argv, " "))
			if slices.Contains(argv, "install") && !m.broken {
				for _, n := range preflight.Building() {
					if slices.Contains(argv, n.Package) {
						m.programs[n.Program], m.programs[n.File] = true, true
					}
				}
			}
			return nil
		},
	}
}

func all() map[string]bool {
	have := map[string]bool{"apt-get": true, "sudo": true}
	for _, n := range preflight.Building() {
		have[n.Program], have[n.File] = true, true
	}
	return have
}

func TestInstallMissing_NothingMissing(t *testing.T) {
	m := &machine{programs: all()}
	if err := m.host().InstallMissing(context.Background(), io.Discard); err != nil {
		t.Fatal(err)
	}
	if len(m.ran) != 0 {
		t.Errorf("ran %q", m.ran)
	}
}

func TestInstallMissing_AsRoot(t *testing.T) {
	m := &machine{programs: all(), root: true}
	delete(m.programs, "mmdebstrap")
	delete(m.programs, "newuidmap")
	var out bytes.Buffer
	if err := m.host().InstallMissing(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	want := "apt-get install --yes --no-install-recommends mmdebstrap uidmap"
	if !slices.Contains(m.ran, want) {
		t.Errorf("ran %q, want %q", m.ran, want)
	}
	if !strings.Contains(out.String(), "installing host package uidmap") {
		t.Errorf("said %q", out.String())
	}
}

func TestInstallMissing_Extra(t *testing.T) {
	m := &machine{programs: all(), root: true, broken: true}
	h := m.host()
	h.Needs = append(h.Needs, preflight.Browser()...)
	err := h.InstallMissing(context.Background(), io.Discard)
	want := "apt-get install --yes --no-install-recommends chromium nodejs npm"
	if err == nil || !slices.Contains(m.ran, want) {
		t.Errorf("ran %q, want %q", m.ran, want)
	}
}

func TestInstallMissing_WithSudo(t *testing.T) {
	m := &machine{programs: all()}
	delete(m.programs, "ssh")
	if err := m.host().InstallMissing(context.Background(), io.Discard); err != nil {
		t.Fatal(err)
	}
	want := "sudo apt-get install --yes --no-install-recommends openssh-client"
	if !slices.Contains(m.ran, want) {
		t.Errorf("ran %q, want %q", m.ran, want)
	}
}

func TestInstallMissing_NeitherRootNorSudo(t *testing.T) {
	m := &machine{programs: all()}
	delete(m.programs, "ssh")
	delete(m.programs, "sudo")
	err := m.host().InstallMissing(context.Background(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "apt-get install --yes --no-install-recommends openssh-client") {
		t.Errorf("error = %v, want the exact command", err)
	}
}

func TestInstallMissing_NoAptGet(t *testing.T) {
	m := &machine{programs: map[string]bool{}}
	err := m.host().InstallMissing(context.Background(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "no apt-get") {
		t.Errorf("error = %v", err)
	}
}

func TestInstallMissing_StillMissing(t *testing.T) {
	m := &machine{programs: all(), root: true, broken: true}
	delete(m.programs, "ssh")
	err := m.host().InstallMissing(context.Background(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "still missing") {
		t.Errorf("error = %v", err)
	}
}
