// Package preflight says which packages a host lacks for building, running and
// testing the Root VM, and installs them. It imports nothing of this project: it
// runs before anything else can.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Need is one program or file the host must have and the Debian package that
// brings it.
type Need struct {
	Program string // looked up on PATH and in the sbin directories
	File    string // or a file that must exist
	Package string
	Reason  string
}

// Running lists what running a VM needs of the host. QEMU and virtiofsd are not
// among them: where the host's are missing or too old they come from the pinned
// tools tree.
func Running() []Need {
	return []Need{{Program: "ssh", Package: "openssh-client", Reason: "reaches the VM"}}
}

// Building lists what building and running need on Debian and Ubuntu. QEMU,
// virtiofsd, mke2fs and GRUB are not among them: they come from the pinned
// tools tree.
func Building() []Need {
	return append([]Need{
		{Program: "git", Package: "git", Reason: "reads the commit's time"},
		{Program: "gcc", Package: "gcc", Reason: "compiles SQLite into the agent"},
		{File: "/usr/include/stdio.h", Package: "libc6-dev", Reason: "compiles SQLite into the agent"},
		{Program: "mmdebstrap", Package: "mmdebstrap", Reason: "bootstraps Debian"},
		{Program: "newuidmap", Package: "uidmap", Reason: "builds without root"},
		{Program: "unshare", Package: "util-linux", Reason: "builds without root"},
		{Program: "dpkg-deb", Package: "dpkg", Reason: "unpacks the tools tree"},
		{Program: "tar", Package: "tar", Reason: "archives the root file system"},
	}, Running()...)
}

// Browser lists what the browser tests need beside that. Ubuntu has Chromium as
// a snap only: see package browser for other ways to name one.
func Browser() []Need {
	return []Need{
		{Program: "chromium", Package: "chromium", Reason: "the browser of the browser tests"},
		{Program: "node", Package: "nodejs", Reason: "runs the browser tests"},
		{Program: "npm", Package: "npm", Reason: "fetches the browser tests' packages"},
	}
}

// Host is what the checks ask of the machine.
type Host struct {
	Needs    []Need // what it has to have
	LookPath func(string) (string, error)
	Exists   func(string) bool
	Root     bool
	Run      func(ctx context.Context, argv []string, out io.Writer) error
}

// ThisHost is the machine the process runs on, which has to have needs.
func ThisHost(needs []Need) Host {
	return Host{
		Needs:    needs,
		LookPath: lookPath,
		Exists:   func(path string) bool { _, err := os.Stat(path); return err == nil },
		Root:     os.Geteuid() == 0,
		Run: func(ctx context.Context, argv []string, out io.Writer) error {
			cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
			cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, out, out
			return cmd.Run()
		},
	}
}

// lookPath also finds what lies in the sbin directories, which are not on an
// ordinary user's PATH on Debian.
func lookPath(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// Missing returns the needs that the host does not meet.
func (h Host) Missing() []Need {
	var missing []Need
	for _, n := range h.Needs {
		if n.File != "" && h.Exists(n.File) {
			continue
		}
		if n.Program != "" {
			if _, err := h.LookPath(n.Program); err == nil {
				continue
			}
		}
		missing = append(missing, n)
	}
	return missing
}

// InstallMissing installs what [Host.Missing] lists through apt-get, as root
// or with sudo, after saying so on out. Without either it fails with the exact
// command to run.
func (h Host) InstallMissing(ctx context.Context, out io.Writer) error {
	missing := h.Missing()
	if len(missing) == 0 {
		return nil
	}

	packages := Packages(missing)
	command := "apt-get install --yes --no-install-recommends " + strings.Join(packages, " ")
	if _, err := h.LookPath("apt-get"); err != nil {
		return fmt.Errorf("this host lacks %s and has no apt-get: install what provides them, then run the command again", strings.Join(packages, ", "))
	}
	prefix, err := h.asRoot(ctx)
	if err != nil {
		return fmt.Errorf("this host lacks packages and %w: run as root\n  apt-get update && %s", err, command)
	}

	for _, n := range missing {
		fmt.Fprintf(out, "installing host package %s (%s)\n", n.Package, n.Reason)
	}
	for _, argv := range [][]string{{"apt-get", "update", "--quiet"}, strings.Fields(command)} {
		if err := h.Run(ctx, append(slices.Clone(prefix), argv...), out); err != nil {
			return fmt.Errorf("install host packages: %s: %w", strings.Join(argv, " "), err)
		}
	}

	if left := h.Missing(); len(left) > 0 {
		return fmt.Errorf("still missing after the installation: %s", strings.Join(Packages(left), ", "))
	}
	return nil
}

// asRoot returns the words to put before a command that needs root.
func (h Host) asRoot(ctx context.Context) ([]string, error) {
	if h.Root {
		return nil, nil
	}
	if _, err := h.LookPath("sudo"); err != nil {
		return nil, errors.New("neither root nor sudo is at hand")
	}
	if err := h.Run(ctx, []string{"sudo", "-v"}, io.Discard); err != nil {
		return nil, errors.New("sudo refused")
	}
	return []string{"sudo"}, nil
}

// Packages lists the Debian packages of needs, each once.
func Packages(needs []Need) []string {
	var names []string
	for _, n := range needs {
		if !slices.Contains(names, n.Package) {
			names = append(names, n.Package)
		}
	}
	return names
}
