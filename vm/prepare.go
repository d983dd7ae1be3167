package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// prepare does everything that must be there before the machine is launched.
func (h Host) prepare(ctx context.Context, inst Instance, note func(phase guest.Phase, note string)) error {
	if name := savedDriverName(inst); name != "" && name != h.Driver.Name() {
		return fmt.Errorf("%s was made by the driver %s, not by %s, and its disks are of no use to another: start it with that one, or destroy it first with `%s`",
			inst.Config.Name, name, h.Driver.Name(), h.command("vm", "destroy"))
	}
	if err := h.clearAway(ctx, inst); err != nil {
		return err
	}
	if err := awaitPorts(ctx, inst.Config.Ports); err != nil {
		return err
	}

	key, err := ensureKey(inst)
	if err != nil {
		return err
	}
	config, err := guestConfig(inst.Config)
	if err != nil {
		return err
	}
	if err := WriteConfigDisk(inst.Path(ConfigDisk), config, key); err != nil {
		return err
	}

	// Known before the driver makes anything, so that Destroy finds it.
	if err := saveDriver(inst, h.Driver); err != nil {
		return err
	}
	plan, err := h.Driver.Prepare(ctx, inst)
	if err != nil {
		return err
	}
	plan.Restart = h.restart()
	if err := h.keepSupervisor(ctx, inst.Dir); err != nil {
		return err
	}

	for _, sentence := range plan.Notes {
		note("", sentence)
	}
	if err := os.Rename(inst.Path(SerialLog), inst.Path(SerialLog+".1")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keep the last serial log: %w", err)
	}
	if inst.Config.DataSize == 0 { // host keys live on the data disk: without one they may be new at every start
		os.Remove(inst.Path(knownHostsFile))
	}

	if err := writeJSON(inst.Path(configFile), inst.Config); err != nil {
		return err
	}
	return writeJSON(inst.Path(planFile), plan)
}

// keepSupervisor keeps the caller's program as the instance's supervisor. A
// caller without one goes on with what an earlier start kept.
func (h Host) keepSupervisor(ctx context.Context, dir string) error {
	if h.Supervisor == nil {
		return nil
	}
	argv, err := h.Supervisor(ctx)
	if err != nil {
		return fmt.Errorf("the supervisor's program: %w", err)
	}
	return keepSupervisor(dir, argv)
}

// guestConfig is what the guest is told.
func guestConfig(c Config) (guest.Config, error) {
	g := guest.Config{Version: guest.ConfigVersion, Hostname: c.Hostname, Share: guest.ShareTag, Ports: c.Ports, Credentials: c.Credentials}
	var err error
	if g.HostNetworks, err = hostNetworks(); err != nil {
		return g, err
	}
	if c.ShareDir == "" {
		return g, nil
	}
	uid, gid, err := Owner(c.ShareDir)
	if err != nil {
		return g, fmt.Errorf("shared directory: %w: give an existing one", err)
	}
	g.UID, g.GID = uint32(uid), uint32(gid)
	return g, nil
}

// Owner returns the user and group that a directory belongs to.
func Owner(dir string) (uid, gid int, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, 0, err
	}
	if !info.IsDir() {
		return 0, 0, fmt.Errorf("%s is not a directory", dir)
	}
	stat := info.Sys().(*syscall.Stat_t)
	return int(stat.Uid), int(stat.Gid), nil
}

// clearAway ends what a supervisor that was killed in the middle of a launch
// left running: processes of the last plan that no state tells of. They are
// known by their working directory and their exact arguments.
func (h Host) clearAway(ctx context.Context, inst Instance) error {
	var plan Plan
	if readJSON(inst.Path(planFile), &plan) != nil {
		return nil // never started
	}
	for _, p := range orphans(inst.Dir, plan) {
		h.log().Warn("ending a left-over process", "name", p.Name, "pid", p.PID)
		if err := endProcess(ctx, p, 3*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// endProcess kills a process of a machine, which blocks every softer signal
// ([StartShielded]), and waits for its end.
func endProcess(ctx context.Context, p Process, patience time.Duration) error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	select {
	case <-p.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
	}
	return fmt.Errorf("process %s (pid %d) does not end: it may hang on a device or a network file system", p.Name, p.PID)
}
