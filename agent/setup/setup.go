// Package setup prepares the machine for Rockpool, as root and early on each
// boot: the data disk, the credentials of the system, the configuration disk, the
// host name, the account for SSH, keys and the dashboard's credentials. It owns
// those files and mounts, and [guest.SetupRunDir], where it leaves what the
// daemon and Caddy read. It imports only guest, the contract with the host.
//
// Every step is an "ensure": it may run again, and may be interrupted
// anywhere. A step that fails does not keep the next one from running, so
// that a person can at least log in and look.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// Kernel are the system calls that need root.
type Kernel interface {
	Mount(source, target, fstype string, flags uintptr, data string) error
	Unmount(target string) error
	SetHostname(name string) error
	// Chown changes a path itself, never what a link points to.
	Chown(path string, uid, gid int) error
}

// Commands runs other programs: only those that write file systems.
type Commands interface {
	// Run returns what the program wrote to both its outputs. A failure is an
	// *exec.ExitError.
	Run(ctx context.Context, name string, args ...string) ([]byte, error)
}

// Setup is one run. All fields must be set.
type Setup struct {
	Root     string // "/", or a directory that stands for it in a test
	Kernel   Kernel
	Commands Commands
	Random   io.Reader
	Now      func() time.Time
	HashCost int          // of bcrypt
	Log      *slog.Logger // one line for each step

	config         guest.Config
	authorizedKeys []byte
	password       string // of the dashboard, in clear: given by the host
	dataErr        error
}

// step is one named part. It returns what it did in a few words.
type step struct {
	name string
	run  func(context.Context) (string, error)
}

// Run runs all steps. The error is one line that holds the fault of each step
// that failed.
func (s *Setup) Run(ctx context.Context) error {
	s.config = guest.Config{}
	s.config.FillDefaults()
	var faults []string
	for _, st := range []step{
		{"results", s.makeRunDir},
		{"system-credentials", s.readSystemCredentials},
		{"config-disk", s.readConfigDisk},
		{"data-disk", s.mountData},
		{"directories", s.makeDirectories},
		{"hostname", s.setHostname},
		{"memory", s.limitMemory},
		{"host-keys", s.ensureHostKeys},
		{"account", s.renumberLogin},
		{"ecosystem", s.makeEcosystemDir},
		{"authorized-keys", s.writeAuthorizedKeys},
		{"credentials", s.ensureCredentials},
		{"config", s.writeConfig},
		{"console", s.writeConsole},
	} {
		start := s.Now()
		did, err := st.run(ctx)
		if err != nil {
			did = "failed"
			faults = append(faults, st.name+": "+strings.Join(strings.Fields(err.Error()), " "))
		}
		s.Log.Info(did, "step", st.name, "seconds", s.Now().Sub(start).Seconds())
	}
	if faults != nil {
		return errors.New(strings.Join(faults, "; "))
	}
	return nil
}

// path is a guest path under Root.
func (s *Setup) path(p string) string { return filepath.Join(s.Root, p) }

func (s *Setup) makeRunDir(context.Context) (string, error) {
	dir := s.path(guest.SetupRunDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make %s: %w", guest.SetupRunDir, err)
	}
	if err := os.Remove(filepath.Join(dir, dataErrorFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return "ready", nil
}

// setHostname names the machine: the running kernel, the next boot, and the
// line that lets the name resolve without a network.
func (s *Setup) setHostname(context.Context) (string, error) {
	name := s.config.Hostname
	if err := s.Kernel.SetHostname(name); err != nil {
		return "", fmt.Errorf("set host name: %w", err)
	}
	if err := s.replaceIfChanged("/etc/hostname", []byte(name+"\n"), 0o644, 0, 0); err != nil {
		return "", err
	}
	old, err := os.ReadFile(s.path("/etc/hosts"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read hosts: %w", err)
	}
	if err := s.replaceIfChanged("/etc/hosts", hosts(old, name), 0o644, 0, 0); err != nil {
		return "", err
	}
	return name, nil
}

// hosts returns the hosts file with 127.0.1.1 naming this machine and
// everything else as it was.
func hosts(old []byte, name string) []byte {
	var b strings.Builder
	for line := range strings.Lines(string(old)) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == "127.0.1.1" {
			continue
		}
		b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	if len(old) == 0 {
		b.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	}
	fmt.Fprintf(&b, "127.0.1.1 %s\n", name)
	return []byte(b.String())
}
