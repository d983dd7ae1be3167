package userns

import (
	"context"
	_ "embed"
	"os/exec"
	"path/filepath"
	"slices"
)

//go:embed scripts/enter.sh
var enterScript string

// Root is a root file system in a directory of the host, in which commands run
// as its root. Every command finds /proc, a minimal /dev, /sys read-only and an
// empty /run, has no network, starts no service, and leaves nothing mounted and
// no process running.
type Root struct {
	Namespace *Namespace
	Dir       string   // absolute
	Env       []string // NAME=value, added to the fixed environment of every command
}

// Chroot is the root file system at dir.
func (n *Namespace) Chroot(dir string) *Root {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return &Root{Namespace: n.Offline(), Dir: dir}
}

// environment of every command: nothing of the host's shows.
var environment = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "TERM=dumb",
	"LANG=C.UTF-8", "TZ=UTC", "DEBIAN_FRONTEND=noninteractive",
}

// Command prepares argv to run in the root file system, found by its PATH,
// with nothing of the caller's environment.
func (r *Root) Command(ctx context.Context, argv ...string) *exec.Cmd {
	args := []string{"--", "/bin/bash", "-c", enterScript, "enter", r.Dir, "/usr/bin/env", "-i"}
	args = append(append(append(args, environment...), r.Env...), argv...)
	return r.Namespace.command(ctx, args...)
}

// Surroundings returns what every command finds beside the root file system
// itself: the script that enters it, and its environment. They are a part of
// the key under which somebody keeps the results of commands.
func (r *Root) Surroundings() []string {
	return slices.Concat([]string{enterScript}, environment, r.Env)
}
