package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/host/preflight"
	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/qemu"
	"github.com/rockpool/rootvm/vm/tart"
)

// machineDriver is a driver as this program offers it.
type machineDriver struct {
	open func() vm.Driver // one whose settings are empty, for an instance's own

	// configure finds what the driver needs on this host, for an instance that
	// is to be started.
	configure func(ctx context.Context, a *App, config vm.Config) (vm.Driver, error)

	// checks look at what the driver needs of this host.
	checks func(ctx context.Context, a *App) []preflight.Check
}

// machineDrivers lists the drivers, the default of this system first.
func machineDrivers() []machineDriver {
	all := []machineDriver{{
		open: func() vm.Driver { return new(qemu.Driver) },
		configure: func(ctx context.Context, a *App, config vm.Config) (vm.Driver, error) {
			programs, err := a.qemuPrograms(ctx, config)
			return &qemu.Driver{Programs: programs, Cache: a.Settings.CacheDir}, err
		},
		checks: func(ctx context.Context, a *App) []preflight.Check {
			return []preflight.Check{a.checkQEMU(ctx), checkAcceleration()}
		},
	}, {
		open:      func() vm.Driver { return new(tart.Driver) },
		configure: func(_ context.Context, a *App, _ vm.Config) (vm.Driver, error) { return a.tartDriver() },
		checks:    func(ctx context.Context, a *App) []preflight.Check { return []preflight.Check{a.checkTart(ctx)} },
	}}
	if runtime.GOOS == "darwin" {
		slices.Reverse(all)
	}
	return all
}

// driverNames are the names of the drivers, the default of this system first.
func driverNames() []string {
	var names []string
	for _, d := range machineDrivers() {
		names = append(names, d.open().Name())
	}
	return names
}

// driver is the one that instances are started with.
func (a *App) driver() machineDriver {
	all := machineDrivers()
	for _, d := range all {
		if d.open().Name() == a.Settings.Driver {
			return d
		}
	}
	return all[0]
}

// tartDriver is the driver for this host's Tart.
func (a *App) tartDriver() (vm.Driver, error) {
	program, err := a.tartProgram()
	return &tart.Driver{Program: program, VM: a.Settings.Tart.VM, Softnet: a.Settings.Tart.Softnet, SoftnetExpose: a.Settings.Tart.SoftnetExpose}, err
}

func (a *App) tartProgram() (tart.Program, error) {
	return tart.Detect(a.Settings.Tart.Home, a.Settings.userHome)
}

// accepted lists the values of a setting that some driver accepts, each once.
func accepted(of func(vm.Capabilities) []string) []string {
	var values []string
	for _, d := range machineDrivers() {
		for _, v := range of(d.open().Capabilities()) {
			if !slices.Contains(values, v) {
				values = append(values, v)
			}
		}
	}
	return values
}

// Values of [Settings.QEMU].
const (
	qemuAuto    = "auto"    // the host's when it is new enough
	qemuHost    = "host"    // the host's
	qemuBundled = "bundled" // the tools tree's
)

// qemuPrograms chooses between the host's QEMU and the one of the tools tree.
func (a *App) qemuPrograms(ctx context.Context, config vm.Config) (qemu.Programs, error) {
	if a.Settings.QEMU != qemuBundled {
		programs, err := qemu.Detect(ctx, config.Architecture)
		switch {
		case err == nil && a.Settings.QEMU == qemuAuto:
			return a.completed(ctx, programs, config)
		case err == nil || a.Settings.QEMU == qemuHost || !errors.Is(err, qemu.ErrTooOld):
			return programs, err
		}
	}

	tools, err := a.tools(ctx, "QEMU")
	if err != nil {
		return qemu.Programs{}, fmt.Errorf("the host's QEMU is missing or too old, and the pinned one cannot be had: %w", err)
	}
	programs := qemu.Programs{FirmwareDirs: tools.QEMUData(), Env: tools.Env()}
	programs.OVMFCode, programs.OVMFVars = firmware(tools, config.Architecture)
	for name, argv := range map[string]*[]string{
		qemu.SystemProgram(config.Architecture): &programs.QEMU,
		"qemu-img":                              &programs.QEMUImg,
		"virtiofsd":                             &programs.Virtiofsd,
	} {
		if *argv, err = tools.Argv(name); err != nil {
			return programs, err
		}
	}
	return programs, nil
}

// completed adds from the tools tree what the instance needs beside the host's
// own QEMU and the host lacks.
func (a *App) completed(ctx context.Context, programs qemu.Programs, config vm.Config) (qemu.Programs, error) {
	noVirtiofsd := len(programs.Virtiofsd) == 0 && config.ShareDir != "" && config.Share != vm.Share9P && config.Share != vm.ShareNone
	noFirmware := programs.OVMFCode == "" && config.Boot == vm.BootUEFI
	if !noVirtiofsd && !noFirmware {
		return programs, nil
	}

	tools, err := a.tools(ctx, "what the host's QEMU lacks")
	if err != nil {
		a.printLine("  the host lacks virtiofsd or UEFI firmware, and the pinned one cannot be had: %v", err)
		return programs, nil // the driver says what follows from it
	}
	if noFirmware {
		programs.OVMFCode, programs.OVMFVars = firmware(tools, config.Architecture)
	}
	if noVirtiofsd {
		programs.Virtiofsd, err = tools.Argv("virtiofsd")
	}
	return programs, err
}

// firmware is the UEFI firmware of the tools tree for a Debian architecture:
// that of its package ovmf, or qemu-efi-aarch64. It is empty when the tree, which
// has that of its own machine, lacks it.
func firmware(tools *bootstrap.Tools, architecture string) (code, variables string) {
	code, variables = "usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd"
	if architecture == "arm64" {
		code, variables = "usr/share/AAVMF/AAVMF_CODE.fd", "usr/share/AAVMF/AAVMF_VARS.fd"
	}
	code, variables = tools.Path(code), tools.Path(variables)
	for _, file := range []string{code, variables} {
		if _, err := os.Stat(file); err != nil {
			return "", "" // the driver says what follows from it
		}
	}
	return code, variables
}

// tools returns the pinned tools tree, from the cache or fetched: it has what
// the user is told of.
func (a *App) tools(ctx context.Context, what string) (*bootstrap.Tools, error) {
	cache := bootstrap.Cache{Dir: a.Settings.CacheDir, Say: func(line string) { a.printLine("  %s", line) }}
	fetcher := bootstrap.NewFetcher(cache, a.Settings.Mirrors, 5)
	if _, ok := fetcher.CachedTools(); !ok {
		a.printLine("fetching %s from Debian's archive, once", what)
	}
	return fetcher.Tools(ctx)
}
