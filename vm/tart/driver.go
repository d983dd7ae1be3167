package tart

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rockpool/rootvm/vm"
)

// AccelVZ is Apple's Virtualization framework, the only [vm.Config.Accel].
const AccelVZ = "vz"

// dataFile is the data disk, in the instance's directory. It is never
// overwritten.
const dataFile = "data.raw"

// Driver is the [vm.Driver] for Tart. Its exported fields are its settings and
// survive a trip through JSON.
type Driver struct {
	Program       Program `json:"program"`
	VM            string  `json:"vm,omitempty"`            // Tart's name of the VM: TART_VM_NAME; empty is the instance's name
	Softnet       bool    `json:"softnet,omitempty"`       // softnet in the place of the NAT
	SoftnetExpose string  `json:"softnetExpose,omitempty"` // ports that softnet opens to the LAN
}

var _ vm.Driver = (*Driver)(nil)

// Name implements [vm.Driver].
func (*Driver) Name() string { return "tart" }

// Capabilities implements [vm.Driver].
func (*Driver) Capabilities() vm.Capabilities {
	return vm.Capabilities{
		Architectures: []string{"arm64"},
		Boots:         []string{vm.BootUEFI},
		Shares:        []string{vm.Auto, vm.ShareAutomount, vm.ShareDirect, vm.ShareNone},
		Accels:        []string{AccelVZ},
		MinCPUs:       2, // with one a reboot of the guest fails (openai/tart#930)
		ImageFormat:   "tart",
	}
}

// name is Tart's name of the instance's VM.
func (d *Driver) name(inst vm.Instance) string { return cmp.Or(d.VM, inst.Config.Name) }

// Prepare implements [vm.Driver].
func (d *Driver) Prepare(ctx context.Context, inst vm.Instance) (vm.Plan, error) {
	c := inst.Config
	plan := vm.Plan{Boot: c.Boot, Accel: AccelVZ, Share: share(c)}
	note := func(s string) {
		if s != "" {
			plan.Notes = append(plan.Notes, s)
		}
	}

	if err := d.checkPaths(inst); err != nil {
		return plan, err
	}
	if _, err := d.Program.Version(ctx); err != nil {
		return plan, err
	}
	roomNote, err := vm.Room(inst.Dir)
	if err != nil {
		return plan, err
	}
	note(roomNote)
	if err := d.root(ctx, inst, note); err != nil {
		return plan, err
	}

	o := RunOptions{
		VM: d.name(inst), Serial: inst.Path(serialLink), ConfigDisk: inst.Path(vm.ConfigDisk),
		Share: plan.Share, Softnet: d.Softnet, SoftnetExpose: d.SoftnetExpose,
	}
	if plan.Share != vm.ShareNone {
		o.ShareDir = c.ShareDir
	}
	if c.DataSize > 0 {
		dataNote, err := vm.DataDisk(inst.Path(dataFile), roundUp(c.DataSize))
		if err != nil {
			return plan, err
		}
		note(dataNote)
		o.DataDisk = inst.Path(dataFile)
	}
	if err := padDisk(o.ConfigDisk); err != nil {
		return plan, err
	}

	note(d.pathNote(inst))
	if d.Softnet {
		note("softnet needs to be run with privileges (its program is setuid root, or sudo asks), opens TCP ports only, and what it opens is reached from other machines, not from this Mac")
	}
	plan.Processes = []vm.Command{
		{Name: serialName, Argv: []string{"/bin/cat", "-u"}},
		{Name: tartName, Argv: append(d.Program.Argv[:len(d.Program.Argv):len(d.Program.Argv)], o.Args()...)},
	}
	return plan, nil
}

// share is how the directory is shared.
func share(c vm.Config) string {
	switch {
	case c.ShareDir == "":
		return vm.ShareNone
	case c.Share == vm.Auto:
		return vm.ShareAutomount
	}
	return c.Share
}

// checkPaths refuses paths that Tart would take apart: colons part what its
// options say, and a path that is not there ends in an obscure error.
func (d *Driver) checkPaths(inst vm.Instance) error {
	if strings.Contains(inst.Dir, ":") {
		return fmt.Errorf("the path %s has a colon, at which Tart takes its options apart: keep instances elsewhere (ROCKPOOL_STATE)", inst.Dir)
	}
	if d.name(inst) != filepath.Base(d.name(inst)) || strings.HasPrefix(d.name(inst), ".") {
		return fmt.Errorf("%q is no name of a VM: use letters, digits and dashes (TART_VM_NAME)", d.name(inst))
	}
	if dir := inst.Config.ShareDir; dir != "" && inst.Config.Share != vm.ShareNone {
		if strings.Contains(dir, ":") {
			return fmt.Errorf("the shared directory %s has a colon, at which Tart takes its options apart: share one without", dir)
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("the shared directory %s is not there: give an existing one", dir)
		}
	}
	return nil
}

// maxControlPath is the longest path of a socket that macOS takes, its end
// included.
const maxControlPath = 104

// pathNote tells of a socket whose path is too long for macOS.
func (d *Driver) pathNote(inst vm.Instance) string {
	path := filepath.Join(d.Program.dir(d.name(inst)), controlName)
	if len(path) < maxControlPath {
		return ""
	}
	return fmt.Sprintf("the path of %s has %d bytes, more than the %d that macOS takes: it is reached by a short link, and should Tart not make it, ports go over its NAT; a shorter TART_HOME or TART_VM_NAME helps",
		path, len(path), maxControlPath-1)
}

// root makes sure that Tart's VM is the one of the configuration. It is made
// again when the image or the wanted size changed.
func (d *Driver) root(ctx context.Context, inst vm.Instance, note func(string)) error {
	name, c := d.name(inst), inst.Config
	dir := d.Program.dir(name)
	before, err := readRecord(inst)
	if err != nil {
		return err
	}
	want, err := wanted(name, c)
	if err != nil {
		return err
	}
	_, statErr := os.Lstat(dir)
	exists := statErr == nil
	_, _, damage := checkDirectory(dir)
	switch {
	case before.VM != "" && before.VM != name:
		return fmt.Errorf("%s was made as Tart's VM %s, not as %s: give that name (TART_VM_NAME), or destroy it first", c.Name, before.VM, name)
	case exists && before.VM != name:
		return fmt.Errorf("Tart has a VM %s that Rockpool did not make: choose another name (TART_VM_NAME), or remove it with `tart delete %[1]s`", name)
	}

	if exists && before.Whole && damage == nil { // Tart knows no VM that lacks a file
		on, err := d.Program.running(ctx, name)
		if err != nil {
			return err
		}
		if on {
			return fmt.Errorf("Tart's VM %s runs already, and Rockpool did not start it: end it with `tart stop %[1]s`", name)
		}
	}
	if damage == nil && before.same(want) {
		d.watchMAC(inst, note)
		return d.Program.set(ctx, name, c.CPUs, c.Memory/vm.MiB)
	}
	switch {
	case exists && before.Whole && before.same(want):
		note("Tart's VM was damaged and is made again, data stays")
	case exists && before.Whole:
		note("the image changed: Tart's VM is made again, data stays")
	}
	return d.makeRoot(ctx, inst, want)
}

// makeRoot makes Tart's VM. The record says whose it is before there is
// anything, and that it is whole when it is.
func (d *Driver) makeRoot(ctx context.Context, inst vm.Instance, want record) error {
	name, c := d.name(inst), inst.Config
	dir := d.Program.dir(name)
	want.Whole = false
	if err := want.write(inst); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}

	if err := copyDirectory(ctx, c.Image, dir); err != nil {
		return fmt.Errorf("make Tart's VM %s: %w", name, errors.Join(err, os.RemoveAll(dir)))
	}
	size, _, err := checkDirectory(dir)
	if err == nil && c.DiskSize > size {
		err = os.Truncate(filepath.Join(dir, diskName), roundUp(c.DiskSize))
	}
	if err == nil {
		err = d.Program.set(ctx, name, c.CPUs, c.Memory/vm.MiB)
	}
	if err != nil {
		return fmt.Errorf("make Tart's VM %s: %w", name, errors.Join(err, os.RemoveAll(dir)))
	}

	made, err := readConfig(dir)
	if err != nil {
		return err
	}
	want.Whole, want.MAC = true, made.MACAddress
	return want.write(inst)
}

// watchMAC tells of another MAC address than before: Tart draws one when another
// VM has the same, and the lease of the address on its NAT is another then.
func (d *Driver) watchMAC(inst vm.Instance, note func(string)) {
	r, err := readRecord(inst)
	if err != nil {
		return
	}
	now, err := readConfig(d.Program.dir(r.VM))
	if err != nil || now.MACAddress == r.MAC {
		return
	}
	if r.MAC != "" {
		note(fmt.Sprintf("the MAC address of Tart's VM %s is now %s, no longer %s: its address on the NAT is another", r.VM, now.MACAddress, r.MAC))
	}
	r.MAC = now.MACAddress
	if err := r.write(inst); err != nil {
		note(fmt.Sprintf("the MAC address is not recorded: %v", err))
	}
}

// padDisk makes a disk a multiple of what Virtualization.framework takes.
func padDisk(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("configuration disk: %w", err)
	}
	if info.Size()%sectorSize == 0 {
		return nil
	}
	if err := os.Truncate(path, roundUp(info.Size())); err != nil {
		return fmt.Errorf("pad the configuration disk: %w", err)
	}
	return nil
}

func roundUp(size int64) int64 { return (size + sectorSize - 1) / sectorSize * sectorSize }

// Launch implements [vm.Driver].
func (d *Driver) Launch(ctx context.Context, inst vm.Instance, plan vm.Plan, started func(vm.Process)) (vm.Machine, error) {
	m := newMachine(d, inst)
	if err := m.launch(ctx, plan, started); err != nil {
		return nil, errors.Join(err, m.killAll())
	}
	go m.watch()
	return m, nil
}

// Attach implements [vm.Driver].
func (d *Driver) Attach(_ context.Context, inst vm.Instance, _ vm.Plan, state vm.State) (vm.Machine, error) {
	m := newMachine(d, inst)
	for _, p := range state.Processes {
		switch p.Name {
		case tartName:
			m.tart = p
		case serialName:
			m.serial = p
		}
	}
	if !m.tart.Alive() {
		return nil, fmt.Errorf("attach to Tart: %w", vm.ErrNotRunning)
	}
	go m.watch()
	return m, nil
}

// Destroy implements [vm.Driver].
func (d *Driver) Destroy(ctx context.Context, inst vm.Instance) error {
	r, err := readRecord(inst)
	if err != nil {
		return err
	}
	if r.VM != "" {
		dir := d.Program.dir(r.VM)
		if _, _, damage := checkDirectory(dir); damage == nil && r.Whole { // a VM to Tart
			if err := d.Program.remove(ctx, r.VM); err != nil {
				return err
			}
		}
		for _, left := range []string{dir, dir + ".incoming"} {
			if err := os.RemoveAll(left); err != nil {
				return err
			}
		}
	}
	for _, name := range []string{dataFile, serialLink, tartLog, recordFile} {
		if err := os.Remove(inst.Path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
