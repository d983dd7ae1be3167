// Package templates renders what the Root VM runs by: systemd units, the
// Caddyfile, the SSH server's drop-in, udev rules. Every file is a pure
// function of [Params]. It owns no state and imports only the
// contract, package guest; a step of package provision puts the files into the
// image.
package templates

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/rockpool/rootvm/guest"
)

//go:embed files
var files embed.FS

// Params are the names that the files agree on. [Defaults] are those of the
// image; a test may use others.
type Params struct {
	User           string // who runs the agent, Caddy and the containers
	UID            int    // of User
	Admin          string // who may log in, and runs the shared project's processes
	Agent          string // path of rockpool-agent
	RunDir         string // of the agent, holds its socket
	StateDir       string // database, logs, password
	DataDir        string // where the data disk is mounted
	ShareDir       string // where the host's directory is mounted
	SlotsSocket    string // of the root helper that makes views of the workspace image
	RelaySocket    string // of the way to applications in workspaces
	NetworksSocket string // of the root helper that is told the host's networks
	ClockSocket    string // of the root helper that is told the host's clock
	EcosystemDir   string // of the processes of the shared project
	ReplaySocket   string // of the root helper that raises events of the host's files
	Exceptions     string // directory of the packet filter's exceptions
	Channel        string // name of the virtio-serial port to the host
	QueuePort      int    // of the SQS-compatible queue, on the loopback interface
	QueueDir       string // where the user's ElasticMQ is looked for
	Servers        []Server
}

// Server is one of Caddy's servers. Each is an origin of its own, so that an
// IDE or a preview can do nothing to the dashboard.
type Server struct {
	Name      string // what the agent is told in X-Rockpool-Server
	Port      int
	Purpose   string
	Dashboard bool // has the open health check and the security headers
	Preview   bool // leads to what runs in workspaces, not to IDEs
}

// Defaults returns the parameters of the image.
func Defaults() Params {
	return Params{
		User:           guest.ServiceUser,
		UID:            guest.ServiceID,
		Admin:          guest.AdminUser,
		Agent:          guest.AgentProgram,
		RunDir:         guest.AgentRunDir,
		StateDir:       guest.StateDir,
		DataDir:        guest.DataDir,
		ShareDir:       guest.ShareDir,
		SlotsSocket:    guest.SlotsSocket,
		RelaySocket:    guest.RelaySocket,
		NetworksSocket: guest.NetworksSocket,
		ClockSocket:    guest.ClockSocket,
		EcosystemDir:   guest.EcosystemDir,
		ReplaySocket:   guest.ReplaySocket,
		Exceptions:     guest.ExceptionsDir,
		Channel:        guest.ChannelPort,
		QueuePort:      guest.PortQueue,
		QueueDir:       guest.QueueDir,
		Servers: []Server{
			{Name: "srv0", Port: guest.PortDashboard, Purpose: "the dashboard and its API", Dashboard: true},
			{Name: "srv1", Port: guest.PortIDE, Purpose: "the workspaces' IDEs"},
			{Name: "srv2", Port: guest.PortPreview, Purpose: "previews of what runs in workspaces", Preview: true},
		},
	}
}

// Socket is where the agent serves.
func (p Params) Socket() string { return p.RunDir + "/agent.sock" }

// UnavailablePage is what a browser gets while the agent does not answer.
func (p Params) UnavailablePage() (string, error) { return page("unavailable.html") }

// SilentPage is what a browser gets when a workspace that runs does not
// answer.
func (p Params) SilentPage() (string, error) { return page("silent.html") }

// NobodyPage is what a browser gets when nothing listens on a port.
func (p Params) NobodyPage() (string, error) { return page("nobody.html") }

func page(name string) (string, error) {
	b, err := files.ReadFile("files/" + name)
	return strings.TrimSpace(string(b)), err
}

// File is one rendered file.
type File struct {
	Path    string      // absolute, in the guest
	Mode    os.FileMode // permission bits; the owner is root
	Content []byte
}

// presetFile lists the units that are enabled in the image, in the form of
// systemd.preset(5). The step that installs the files enables them by it.
const presetFile = "/etc/systemd/system-preset/50-rockpool.preset"

// targets says where each template goes.
var targets = []struct {
	template, path string
	mode           os.FileMode
	enabled        bool // started at boot by its own [Install] section
}{
	{"rockpool-setup.service", "/etc/systemd/system/rockpool-setup.service", 0o644, true},
	{"rockpool-streams.service", "/etc/systemd/system/rockpool-streams.service", 0o644, false},
	{"rockpool-share.service", "/etc/systemd/system/rockpool-share.service", 0o644, true},
	{"rockpool-agent.service", "/etc/systemd/system/rockpool-agent.service", 0o644, true},
	{"rockpool-caddy.service", "/etc/systemd/system/rockpool-caddy.service", 0o644, true},
	{"rockpool-queue.socket", "/etc/systemd/system/rockpool-queue.socket", 0o644, true},
	{"rockpool-queue.service", "/etc/systemd/system/rockpool-queue.service", 0o644, false},
	{"rockpool-late.service", "/etc/systemd/system/rockpool-late.service", 0o644, true},
	{"rockpool-late.target", "/etc/systemd/system/rockpool-late.target", 0o644, false},
	{"rockpool-grow.service", "/etc/systemd/system/rockpool-grow.service", 0o644, false},
	{"rockpool-console.service", "/etc/systemd/system/rockpool-console.service", 0o644, false},
	{"user.conf", "/etc/systemd/system/user@990.service.d/60-rockpool.conf", 0o644, false},
	{"rockpool-firewall.service", "/etc/systemd/system/rockpool-firewall.service", 0o644, false},
	{"rockpool-slots.socket", "/etc/systemd/system/rockpool-slots.socket", 0o644, true},
	{"rockpool-slots@.service", "/etc/systemd/system/rockpool-slots@.service", 0o644, false},
	{"rockpool-relay.socket", "/etc/systemd/system/rockpool-relay.socket", 0o644, true},
	{"rockpool-relay.service", "/etc/systemd/system/rockpool-relay.service", 0o644, false},
	{"podman.conf", "/etc/systemd/user/podman.service.d/50-rockpool.conf", 0o644, false},
	{"workspaces.slice", "/etc/systemd/user/" + guest.WorkspaceSlice, 0o644, false},
	{"rockpool-networks.socket", "/etc/systemd/system/rockpool-networks.socket", 0o644, true},
	{"rockpool-networks@.service", "/etc/systemd/system/rockpool-networks@.service", 0o644, false},
	{"rockpool-clock.socket", "/etc/systemd/system/rockpool-clock.socket", 0o644, true},
	{"rockpool-clock@.service", "/etc/systemd/system/rockpool-clock@.service", 0o644, false},
	{"rockpool-replay.socket", "/etc/systemd/system/rockpool-replay.socket", 0o644, true},
	{"rockpool-replay@.service", "/etc/systemd/system/rockpool-replay@.service", 0o644, false},
	{"rockpool-ecosystem.service", "/etc/systemd/system/" + guest.EcosystemUnit, 0o644, false},
	{"workspaces.nft", guest.FirewallFile, 0o644, false},
	{"workspaces.nft", guest.FirewallSource, 0o644, false},
	{"rockpool-report@.service", "/etc/systemd/system/rockpool-report@.service", 0o644, false},
	{"ssh.conf", "/etc/systemd/system/ssh.service.d/50-rockpool.conf", 0o644, false},
	{"10-rockpool.conf", "/etc/ssh/sshd_config.d/10-rockpool.conf", 0o644, false},
	{"99-rockpool.rules", "/etc/udev/rules.d/99-rockpool.rules", 0o644, false},
	{"Caddyfile", "/etc/rockpool/Caddyfile", 0o644, false},
	{"report-failure", "/usr/local/lib/rockpool/report-failure", 0o755, false},
}

// Render returns all files, in a fixed order.
func Render(p Params) ([]File, error) {
	all, err := template.New("").Option("missingkey=error").ParseFS(files, "files/*.tmpl")
	if err != nil {
		return nil, fmt.Errorf("parse templates: %w", err)
	}
	var out []File
	var preset strings.Builder
	for _, t := range targets {
		if t.enabled {
			fmt.Fprintf(&preset, "enable %s\n", filepath.Base(t.path))
		}
		var b bytes.Buffer
		if err := all.ExecuteTemplate(&b, t.template+".tmpl", p); err != nil {
			return nil, fmt.Errorf("render %s: %w", t.path, err)
		}
		out = append(out, File{Path: t.path, Mode: t.mode, Content: b.Bytes()})
	}
	return append(out, File{Path: presetFile, Mode: 0o644, Content: []byte(preset.String())}), nil
}

// Write renders all files below dir, which stands for the guest's root and
// should be empty. The result has the same bytes each time; the step that
// installs the tree sets the owners.
func Write(dir string, p Params) error {
	rendered, err := Render(p)
	if err != nil {
		return err
	}
	for _, f := range rendered {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write templates: %w", err)
		}
		if err := os.WriteFile(path, f.Content, f.Mode); err != nil {
			return fmt.Errorf("write templates: %w", err)
		}
		if err := os.Chmod(path, f.Mode); err != nil && !errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("write templates: %w", err)
		}
	}
	return nil
}
