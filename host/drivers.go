package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/qemu"
)

// machineDriver is a driver as this program offers it.
type machineDriver struct {
	open func() vm.Driver // one whose settings are empty, for an instance's own

	// configure finds what the driver needs on this host, for an instance that
	// is to be started.
	configure func(ctx context.Context, a *App, architecture string) (vm.Driver, error)
}

// machineDrivers lists the drivers, the default first.
func machineDrivers() []machineDriver {
	return []machineDriver{{
		open: func() vm.Driver { return new(qemu.Driver) },
		configure: func(ctx context.Context, a *App, architecture string) (vm.Driver, error) {
			programs, err := a.qemuPrograms(ctx, architecture)
			return &qemu.Driver{Programs: programs, Cache: a.Settings.CacheDir}, err
		},
	}}
}

// Values of [Settings.QEMU].
const (
	qemuAuto    = "auto"    // the host's when it is new enough
	qemuHost    = "host"    // the host's
	qemuBundled = "bundled" // the tools tree's
)

// qemuPrograms chooses between the host's QEMU and the one of the tools tree.
func (a *App) qemuPrograms(ctx context.Context, architecture string) (qemu.Programs, error) {
	if a.Settings.QEMU != qemuBundled {
		programs, err := qemu.Detect(ctx, architecture)
		if err == nil || a.Settings.QEMU == qemuHost || !errors.Is(err, qemu.ErrTooOld) {
			return programs, err
		}
	}

	tools, err := a.tools(ctx)
	if err != nil {
		return qemu.Programs{}, fmt.Errorf("the host's QEMU is missing or too old, and the pinned one cannot be had: %w", err)
	}
	programs := qemu.Programs{
		FirmwareDirs: tools.QEMUData(),
		Env:          tools.Env(),
		OVMFCode:     tools.Path("usr/share/OVMF/OVMF_CODE_4M.fd"),
		OVMFVars:     tools.Path("usr/share/OVMF/OVMF_VARS_4M.fd"),
	}
	for name, argv := range map[string]*[]string{
		qemu.SystemProgram(architecture): &programs.QEMU,
		"qemu-img":                       &programs.QEMUImg,
		"virtiofsd":                      &programs.Virtiofsd,
	} {
		if *argv, err = tools.Argv(name); err != nil {
			return programs, err
		}
	}
	return programs, nil
}

// tools returns the pinned tools tree, from the cache or fetched.
func (a *App) tools(ctx context.Context) (*bootstrap.Tools, error) {
	cache := bootstrap.Cache{Dir: a.Settings.CacheDir}
	if tools, ok := cache.CachedTools(); ok {
		return tools, nil
	}

	mirrors := a.Settings.Mirrors
	if len(mirrors) == 0 {
		var err error
		if mirrors, err = bootstrap.DefaultMirrors(ctx); err != nil {
			return nil, err
		}
	}
	a.say("fetching QEMU from Debian's archive, once: the host's is missing or too old")
	fetcher := &bootstrap.Fetcher{Cache: cache, Mirrors: mirrors, Progress: a.bytesProgress()}
	return fetcher.Tools(ctx)
}

// bytesProgress prints a line for every fifth part of a transfer.
func (a *App) bytesProgress() func(done, total int64, name string) {
	last := int64(-1)
	return func(done, total int64, _ string) {
		if total == 0 || done*5/total == last {
			return
		}
		last = done * 5 / total
		a.say("  %d of %d MB", done/1e6, total/1e6)
	}
}
