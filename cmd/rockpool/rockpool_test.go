package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	server "github.com/google/go-containerregistry/pkg/registry"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/tart"
	"github.com/rockpool/rootvm/host"
	"github.com/rockpool/rootvm/host/cli"
	"github.com/rockpool/rootvm/images/registry"
	"github.com/rockpool/rootvm/images/registry/push"
	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/tart/standin"
)

// asTart has the test binary play Tart.
const asTart = "as-tart"

// TestMain lets the test binary play Tart, and be the program: its own
// supervisor.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case asTart:
			os.Exit(standin.Main(os.Args[2:], os.Getenv, os.Stdout, os.Stderr))
		case host.SuperviseVerb:
			os.Exit(run())
		}
	}
	os.Exit(m.Run())
}

// mac is a user of a Mac, with Tart and an empty home directory.
type mac struct {
	*testing.T
	home string
	env  map[string]string
}

func newMac(t *testing.T) *mac {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := &mac{T: t, home: t.TempDir()}
	bin := filepath.Join(m.home, "bin")
	script := fmt.Sprintf("#!/bin/sh\nexec %q %s \"$@\"\n", self, asTart)
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "tart"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	// The default on a Mac, and the default below the home directory.
	m.env = map[string]string{"ROCKPOOL_DRIVER": "tart", "REGISTRY_AUTH_FILE": filepath.Join(m.home, "auth.json")}
	return m
}

// try runs a command line.
func (m *mac) try(args ...string) (out, said string, code int) {
	m.Helper()
	var stdout, stderr bytes.Buffer
	code = cli.Run(m.Context(), args, program(), host.Surroundings{
		In: strings.NewReader(""), Out: &stdout, Err: &stderr,
		Getenv:  func(name string) string { return m.env[name] },
		HomeDir: func() (string, error) { return m.home, nil },
		Dir:     m.home,
	})
	m.Logf("rockpool %s: %d\n%s%s", strings.Join(args, " "), code, stdout.String(), stderr.String())
	return stdout.String(), stderr.String(), code
}

func (m *mac) run(args ...string) string {
	m.Helper()
	out, said, code := m.try(args...)
	if code != cli.ExitOK {
		m.Fatalf("rockpool %s: %d, %s", strings.Join(args, " "), code, said)
	}
	return out
}

// disk is the beginning of the disk of Tart's VM.
func (m *mac) disk() string {
	m.Helper()
	f, err := os.Open(filepath.Join(m.home, ".tart/vms/rockpool-root/disk.img"))
	if err != nil {
		m.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 4)
	if _, err := io.ReadFull(f, b); err != nil {
		m.Fatal(err)
	}
	return strings.TrimRight(string(b), "\x00")
}

// published pushes a Tart artifact whose disk begins with content.
func published(t *testing.T, content, reference string) {
	t.Helper()
	spec := builders.Spec{Architecture: "arm64", SourceDateEpoch: 1_700_000_000}
	spec.FillDefaults()
	dir := t.TempDir()
	raw, layout := filepath.Join(dir, "raw"), filepath.Join(dir, "oci")
	if err := os.WriteFile(raw, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(raw, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := tart.New(spec, raw).WriteLayout(t.Context(), layout); err != nil {
		t.Fatal(err)
	}
	if err := push.Push(t.Context(), layout, registry.Remote{Reference: reference, PlainHTTP: true, AuthFile: filepath.Join(dir, "auth.json")}); err != nil {
		t.Fatal(err)
	}
}

// freePorts are an SSH port and the first of three web ports.
func freePorts(t *testing.T) []string {
	t.Helper()
	for web := 21000; web < 30000; web += 10 {
		free := true
		for port := web; port < web+4; port++ {
			l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				free = false
				break
			}
			l.Close()
		}
		if free {
			return []string{fmt.Sprintf("--web-port=%d", web), fmt.Sprintf("--ssh-port=%d", web+3)}
		}
	}
	t.Fatal("no free ports")
	return nil
}

// TestTart is a Mac's life of an instance, from a registry: up, every look at
// it, down, up without an image, an update under the same tag, destroy.
func TestTart(t *testing.T) {
	hub := httptest.NewServer(server.New(server.Logger(log.New(io.Discard, "", 0))))
	defer hub.Close()
	reference := strings.TrimPrefix(hub.URL, "http://") + "/rockpool/root:trixie"
	published(t, "one", reference)

	m := newMac(t)
	if _, said, code := m.try("up"); code != cli.ExitNotFound || !strings.Contains(said, "the reference of an artifact in a registry") {
		t.Errorf("up without an image: %d, %s", code, said)
	}
	settings := append(freePorts(t), "--memory=1G", "--cpus=2", "--data-size=1G")
	up := append([]string{"up"}, settings...)
	fetched := append(up, "--image", reference, "--plain-http=1")
	t.Cleanup(func() { m.try("vm", "destroy", "--yes=1") })
	out := m.run(fetched...)
	for _, want := range []string{"fetching " + reference, "100 %", "unpacking and checking it", "dashboard  http://", "is ready"} {
		if !strings.Contains(out, want) {
			t.Errorf("up does not say %q", want)
		}
	}

	var state vm.State
	if err := json.Unmarshal([]byte(m.run("vm", "status", "--json")), &state); err != nil || state.Status != vm.Ready || m.disk() != "one" {
		t.Errorf("status %+v, %v, disk %q", state, err, m.disk())
	}
	if out := m.run("vm", "logs"); !strings.Contains(out, "Booting Linux") {
		t.Errorf("logs: %q", out)
	}
	if out := m.run(fetched...); !strings.Contains(out, "already running") {
		t.Errorf("a second up: %q", out)
	}
	if out, _, _ := m.try("doctor"); !strings.Contains(out, "bin/tart, version "+standin.Version[:4]) || strings.Contains(out, "QEMU") {
		t.Errorf("doctor: %q", out)
	}

	published(t, "two", reference)
	if _, said, code := m.try(fetched...); code != cli.ExitFailure || !strings.Contains(said, "its image can only be changed while it is off") {
		t.Errorf("another image while it runs: %d, %q", code, said)
	}
	m.run("down")
	if out := m.run(up...); strings.Contains(out, "fetching") || m.disk() != "one" {
		t.Errorf("without an image: %q, disk %q", out, m.disk())
	}
	m.run("down")
	if out := m.run(fetched...); !strings.Contains(out, "the image changed: Tart's VM is made again, data stays") || m.disk() != "two" {
		t.Errorf("an update: %q, disk %q", out, m.disk())
	}

	m.run("vm", "destroy", "--yes=1")
	for _, dir := range []string{".tart/vms/*", ".local/state/rockpool-root-vm/instances/*"} {
		if left, err := filepath.Glob(filepath.Join(m.home, dir)); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	}
}
