package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

// Driver is the [vm.Driver] for QEMU. Its exported fields are its settings and
// survive a trip through JSON.
type Driver struct {
	Programs Programs `json:"programs"`
	Cache    string   `json:"cache"` // directory for the verdict on acceleration
}

var _ vm.Driver = (*Driver)(nil)

// Name implements [vm.Driver].
func (d *Driver) Name() string { return "qemu" }

// Capabilities implements [vm.Driver].
func (d *Driver) Capabilities() vm.Capabilities {
	return vm.Capabilities{
		Architectures: []string{"amd64", "arm64"},
		Boots:         []string{vm.BootKernel, vm.BootBIOS, vm.BootUEFI},
		Shares:        []string{vm.Auto, vm.ShareVirtiofs, vm.Share9P, vm.ShareNone},
		Accels:        []string{vm.Auto, vm.AccelKVM, vm.AccelTCG},
		ImageFormat:   "qcow2",
		Forwards:      true,
	}
}

// Prepare implements [vm.Driver].
func (d *Driver) Prepare(ctx context.Context, inst vm.Instance) (vm.Plan, error) {
	c := inst.Config
	plan := vm.Plan{Boot: c.Boot}
	note := func(s string) {
		if s != "" {
			plan.Notes = append(plan.Notes, s)
		}
	}

	if len(d.Programs.QEMU) == 0 || len(d.Programs.QEMUImg) == 0 {
		return plan, errors.New("QEMU is missing: install qemu-system-x86 (or -arm) and qemu-utils")
	}
	roomNote, err := vm.Room(inst.Dir)
	if err != nil {
		return plan, err
	}
	note(roomNote)

	o, err := d.options(ctx, inst, note)
	if err != nil {
		return plan, err
	}

	accel, accelNote, err := d.accelerate(ctx, c)
	if err != nil {
		return plan, err
	}
	note(accelNote)
	o.Accel = accel

	share, virtiofsd, shareNote, err := d.share(ctx, inst)
	if err != nil {
		return plan, err
	}
	note(shareNote)
	o.Share = share

	plan.Accel, plan.Share = accel, share
	if share == vm.ShareVirtiofs {
		plan.Processes = append(plan.Processes, d.command("virtiofsd", d.Programs.Virtiofsd, virtiofsd.Args()))
	}
	plan.Processes = append(plan.Processes, d.command("qemu", d.Programs.QEMU, o.Args()))
	return plan, nil
}

// options makes the disks and collects what the command line needs, except
// acceleration and share.
func (d *Driver) options(ctx context.Context, inst vm.Instance, note func(string)) (Options, error) {
	c := inst.Config
	o := Options{Config: c, SerialLog: vm.SerialLog, FirmwareDirs: d.Programs.FirmwareDirs}

	root, rootNote, err := d.rootDisk(ctx, inst)
	if err != nil {
		return o, err
	}
	note(rootNote)
	o.Disks = append(o.Disks, Disk{File: root, Format: "qcow2", Serial: guest.RootDiskSerial, Boot: c.Boot != vm.BootKernel})

	if c.DataSize > 0 {
		dataNote, err := vm.DataDisk(inst.Path(dataFile), c.DataSize)
		if err != nil {
			return o, err
		}
		note(dataNote)
		o.Disks = append(o.Disks, Disk{File: inst.Path(dataFile), Format: "raw", Serial: guest.DataDiskSerial})
	}
	o.Disks = append(o.Disks, Disk{File: inst.Path(vm.ConfigDisk), Format: "raw", Serial: guest.ConfigDiskSerial, ReadOnly: true})

	switch c.Boot {
	case vm.BootKernel:
		for _, file := range []string{c.Image.Kernel, c.Image.Initrd} {
			if _, err := os.Stat(file); err != nil {
				return o, fmt.Errorf("the image's kernel: %w: %s", err, c.Image.Cure())
			}
		}
	case vm.BootUEFI:
		if d.Programs.OVMFCode == "" {
			return o, errors.New("no UEFI firmware is known: install the package ovmf (amd64) or qemu-efi-aarch64 (arm64), or boot with kernel")
		}
		if o.FirmwareVars, err = d.firmwareVars(inst); err != nil {
			return o, err
		}
		o.FirmwareCode = d.Programs.OVMFCode
	}
	return o, nil
}

func (d *Driver) command(name string, program, args []string) vm.Command {
	return vm.Command{Name: name, Argv: append(program[:len(program):len(program)], args...), Env: d.Programs.Env}
}

// Launch implements [vm.Driver].
func (d *Driver) Launch(ctx context.Context, inst vm.Instance, plan vm.Plan, started func(vm.Process)) (vm.Machine, error) {
	m := newMachine(inst, plan)
	if err := m.launch(ctx, started); err != nil {
		m.killAll()
		return nil, err
	}
	go m.watch()
	return m, nil
}

// Attach implements [vm.Driver].
func (d *Driver) Attach(ctx context.Context, inst vm.Instance, plan vm.Plan, state vm.State) (vm.Machine, error) {
	m := newMachine(inst, plan)
	for _, p := range state.Processes {
		switch p.Name {
		case "qemu":
			m.qemu = p
		case "virtiofsd":
			m.virtiofsd = p
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var err error
	if m.qmp, err = dialQMP(ctx, inst.Dir); err != nil {
		return nil, fmt.Errorf("attach to QEMU (pid %d): %w", m.qemu.PID, err)
	}
	go m.watch()
	return m, nil
}

// Destroy implements [vm.Driver]. All that the driver made lies in the
// instance's directory.
func (d *Driver) Destroy(_ context.Context, inst vm.Instance) error {
	for _, name := range []string{rootFile, rootInfoFile, baseFile, dataFile, varsFile} {
		if err := os.Remove(inst.Path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
