package qemu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

// share decides how the directory is shared. virtiofs is tried; 9p is taken
// when it does not work here, with a note that says why.
func (d *Driver) share(ctx context.Context, inst vm.Instance) (kind string, o VirtiofsdOptions, note string, err error) {
	c := inst.Config
	if c.ShareDir == "" || c.Share == vm.ShareNone {
		return vm.ShareNone, o, "", nil
	}

	o, err = d.virtiofsdOptions(c)
	if err != nil {
		return "", o, "", fmt.Errorf("shared directory: %w: give an existing one", err)
	}
	if c.Share == vm.Share9P {
		return vm.Share9P, o, "", nil
	}

	loose, fault := d.sandbox(ctx, &o)
	switch {
	case fault == nil && loose != nil:
		return vm.ShareVirtiofs, o, fmt.Sprintf("virtiofsd runs without its sandbox, so a guest that broke into it could reach all that you can on this host: %s (SHARE=9p or SHARE=none does without it)", loose), nil
	case fault == nil:
		return vm.ShareVirtiofs, o, "", nil
	case ctx.Err() != nil:
		return "", o, "", ctx.Err()
	case c.Share == vm.ShareVirtiofs:
		return "", o, "", fmt.Errorf("virtiofs is asked for but does not work here: %w: use 9p, or leave the choice to the launcher (auto)", fault)
	}
	return vm.Share9P, o, fmt.Sprintf("sharing by 9p, which is slower than virtiofs: %s", fault), nil
}

// virtiofsdOptions finds whose files the guest's are to be. An ordinary user
// can only make its own; root makes the directory's owner's.
func (d *Driver) virtiofsdOptions(c vm.Config) (VirtiofsdOptions, error) {
	uid, gid, err := vm.Owner(c.ShareDir)
	o := VirtiofsdOptions{Dir: c.ShareDir, HostUID: uid, HostGID: gid, GuestUID: guest.AdminIDFor(uid), GuestGID: guest.AdminIDFor(gid)}
	if me := os.Geteuid(); me != 0 {
		o.HostUID, o.HostGID = me, os.Getegid()
	}
	return o, err
}

// sandbox finds the tightest sandbox that virtiofsd can enter here. When it runs,
// but only without one, loose says why; fault says why it does not run at all.
func (d *Driver) sandbox(ctx context.Context, o *VirtiofsdOptions) (loose, fault error) {
	if len(d.Programs.Virtiofsd) == 0 {
		return nil, fmt.Errorf("there is no virtiofsd of at least %s", MinVirtiofsd)
	}

	o.Sandbox = "namespace"
	if loose = d.tryVirtiofsd(ctx, *o); loose == nil {
		return nil, nil
	}
	o.Sandbox = "none"
	if fault = d.tryVirtiofsd(ctx, *o); fault != nil {
		return nil, fault
	}
	return loose, nil
}

// tryVirtiofsd starts virtiofsd until it waits for QEMU, which it does after
// entering its sandbox.
func (d *Driver) tryVirtiofsd(ctx context.Context, o VirtiofsdOptions) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	dir, err := os.MkdirTemp("", "rockpool-virtiofsd-*")
	if err != nil {
		return fmt.Errorf("try virtiofsd: %w", err)
	}
	defer os.RemoveAll(dir)

	argv := append(d.Programs.Virtiofsd[:len(d.Programs.Virtiofsd):len(d.Programs.Virtiofsd)], o.Args()...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), d.Programs.Env...)

	listener, err := listen(dir)
	if err != nil {
		return err
	}
	defer listener.Close()
	cmd.ExtraFiles = []*os.File{listener}

	out := &proofReader{proofs: []string{"Waiting for vhost-user socket connection"}, found: cancel}
	cmd.Stderr = out
	runErr := cmd.Run()
	switch {
	case out.proved:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("virtiofsd: %w", ctx.Err())
	}
	return fmt.Errorf("virtiofsd does not start (%v): %s", runErr, logFault(out.seen))
}

// logFault finds the message in virtiofsd's log that says what went wrong: its
// first error, or whatever is not a line of the log (the loader's words).
func logFault(log []byte) string {
	for _, line := range strings.Split(strings.TrimSpace(string(log)), "\n") {
		if _, message, ok := strings.Cut(line, " ERROR virtiofsd"); ok {
			return strings.TrimLeft(message, "]: ")
		}
		if !strings.HasPrefix(line, "[") {
			return line
		}
	}
	return ""
}

// tailOf returns the last bytes of a file.
func tailOf(path string) []byte {
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil
	}
	return b[max(0, len(b)-4096):]
}
