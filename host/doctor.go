package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/shirou/gopsutil/v4/disk"

	"github.com/rockpool/rootvm/host/preflight"
	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/qemu"
)

// Doctor prints what this host can and cannot do, and fails when something
// must be mended first. asJSON prints a list of {name, ok, detail}.
func (a *App) Doctor(ctx context.Context, asJSON bool) error {
	type finding struct {
		Name   string `json:"name"`
		OK     bool   `json:"ok"`
		Detail string `json:"detail"`
	}
	findings, bad := []finding{}, 0
	for _, c := range a.checks(ctx) {
		findings = append(findings, finding{c.Name, c.Err == nil, c.Detail()})
		if c.Err != nil {
			bad++
		}
	}

	if asJSON {
		if err := WriteJSON(a.Out, findings); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			mark := "ok  "
			if !f.OK {
				mark = "FAIL"
			}
			a.printLine("%s  %-18s %s", mark, f.Name, strings.ReplaceAll(f.Detail, "\n", "\n                        "))
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d checks failed", bad, len(findings))
	}
	return nil
}

// checks looks at everything that running needs, and at what the program adds.
// It changes nothing and fetches nothing.
func (a *App) checks(ctx context.Context) []preflight.Check {
	all := []preflight.Check{a.checkPackages(), a.checkSpace(), a.checkResources()}
	all = append(all, a.driver().checks(ctx, a)...)
	all = append(all, a.checkImage())
	if a.Program.Checks != nil {
		all = append(all, a.Program.Checks(ctx)...)
	}
	return all
}

func (a *App) checkPackages() preflight.Check {
	if missing := a.Packages.Missing(); len(missing) > 0 {
		return preflight.Check{Name: "host packages", Err: fmt.Errorf("missing %s: `%s` installs them",
			strings.Join(preflight.Packages(missing), ", "), a.command("up"))}
	}
	return preflight.Check{Name: "host packages", Text: "all there"}
}

// wantedSpace is what a VM wants on the file system of its disks.
const wantedSpace = 8 * vm.GiB

func (a *App) checkSpace() preflight.Check {
	dir := a.Settings.StateDir
	usage, err := disk.Usage(existing(dir))
	if err != nil {
		return preflight.Check{Name: "disk space", Err: err}
	}
	free := int64(usage.Free)
	if free < wantedSpace {
		return preflight.Check{Name: "disk space", Err: fmt.Errorf("%s free for %s: a VM wants %s or more", vm.Bytes(free), dir, vm.Bytes(wantedSpace))}
	}
	return preflight.Check{Name: "disk space", Text: vm.Bytes(free) + " free for " + dir}
}

func (a *App) checkResources() preflight.Check {
	r, err := vm.HostResources()
	if err != nil {
		return preflight.Check{Name: "memory, cpus", Err: err}
	}
	return preflight.Check{Name: "memory, cpus", Text: fmt.Sprintf("%s, %d cpus", vm.Bytes(r.Memory), r.CPUs)}
}

func (a *App) checkQEMU(ctx context.Context) preflight.Check {
	const name = "QEMU"
	programs, err := qemu.Detect(ctx, runtime.GOARCH)
	switch {
	case a.Settings.QEMU == qemuBundled || errors.Is(err, qemu.ErrTooOld) && a.Settings.QEMU == qemuAuto:
		return preflight.Check{Name: name, Text: "from the pinned tools tree"}
	case err != nil:
		return preflight.Check{Name: name, Err: err}
	}
	return preflight.Check{Name: name, Text: "the host's " + programs.QEMU[0]}
}

func checkAcceleration() preflight.Check {
	const name = "acceleration"
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return preflight.Check{Name: name, Text: "emulation, several times slower: " + err.Error() + " (join the group kvm, or enable virtualisation in the firmware)"}
	}
	f.Close()
	return preflight.Check{Name: name, Text: "/dev/kvm opens; whether it runs guests is tried at the first start"}
}

func (a *App) checkTart(ctx context.Context) preflight.Check {
	const name = "Tart"
	program, err := a.tartProgram()
	if err != nil {
		return preflight.Check{Name: name, Err: err}
	}
	version, err := program.Version(ctx)
	if err != nil {
		return preflight.Check{Name: name, Err: err}
	}
	return preflight.Check{Name: name, Text: fmt.Sprintf("%s, version %s, with its VMs in %s", program.Argv[0], version, program.Home)}
}

func (a *App) checkImage() preflight.Check {
	const name = "instance"
	inst, err := a.instances().Instance(a.Settings.VM.Name)
	if err != nil {
		return preflight.Check{Name: name, Text: fmt.Sprintf("none yet: `%s` makes it", a.command("up"))}
	}
	return preflight.Check{Name: name, Text: fmt.Sprintf("%s, of image %.12s", inst.Config.Name, inst.Config.Image.SHA256)}
}

// existing is the nearest directory at or above path that exists.
func existing(path string) string {
	for path != filepath.Dir(path) {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		path = filepath.Dir(path)
	}
	return path
}
