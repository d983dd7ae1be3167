package targets

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/userns"
	"github.com/rockpool/rootvm/ci/preflight"
	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/qemu"
)

// check is one finding about the host.
type check struct {
	name string
	text string
	err  error
}

func (c check) detail() string {
	if c.err != nil {
		return strings.ReplaceAll(c.err.Error(), "\n", "\n                        ")
	}
	return c.text
}

// checks looks at everything that building and running need. It changes
// nothing and compiles nothing.
func (a *App) checks(ctx context.Context) []check {
	return []check{a.checkPackages(), a.checkNamespaces(), a.checkSpace(), a.checkResources(), a.checkQEMU(ctx), a.checkKVM(), a.checkImage()}
}

func (a *App) checkPackages() check {
	if missing := a.Host.Missing(); len(missing) > 0 {
		return check{name: "host packages", err: fmt.Errorf("missing %s: `go tool mage up` installs them", strings.Join(preflight.Packages(missing), ", "))}
	}
	return check{name: "host packages", text: "all there"}
}

func (a *App) checkNamespaces() check {
	if _, err := userns.New(); err != nil {
		return check{name: "building", err: err}
	}
	if os.Geteuid() == 0 {
		return check{name: "building", text: "as root, in namespaces of its own"}
	}
	return check{name: "building", text: "rootless, with your subordinate ids"}
}

func (a *App) checkSpace() check {
	free, err := bootstrap.FreeSpace(existing(a.Settings.CacheDir))
	if err != nil {
		return check{name: "disk space", err: err}
	}
	if free < 8*vm.GiB {
		return check{name: "disk space", err: fmt.Errorf("%s free for %s: a build and a VM want 8G or more", vm.Bytes(free), a.Settings.CacheDir)}
	}
	return check{name: "disk space", text: vm.Bytes(free) + " free for " + a.Settings.CacheDir}
}

func (a *App) checkResources() check {
	r, err := vm.HostResources()
	if err != nil {
		return check{name: "memory, cpus", err: err}
	}
	return check{name: "memory, cpus", text: fmt.Sprintf("%s, %d cpus", vm.Bytes(r.Memory), r.CPUs)}
}

func (a *App) checkQEMU(ctx context.Context) check {
	p, err := qemu.Detect(ctx, a.Settings.Spec.Architecture)
	switch {
	case a.Settings.QEMU == "bundled" || errors.Is(err, qemu.ErrTooOld) && a.Settings.QEMU == "auto":
		return check{name: "QEMU", text: "from the pinned tools tree"}
	case err != nil:
		return check{name: "QEMU", err: err}
	}
	return check{name: "QEMU", text: "the host's " + p.QEMU[0]}
}

func (a *App) checkKVM() check {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return check{name: "acceleration", text: "emulation, several times slower: " + err.Error() + " (join the group kvm, or enable virtualisation in the firmware)"}
	}
	f.Close()
	return check{name: "acceleration", text: "/dev/kvm opens; whether it runs guests is tried at the first start"}
}

func (a *App) checkImage() check {
	m, ok := a.pipeline().Manifest()
	if !ok {
		return check{name: "image", text: "none yet: `go tool mage up` builds it"}
	}
	return check{name: "image", text: m.Name + " of revision " + m.Revision}
}

// existing is the nearest directory at or above path that exists.
func existing(path string) string {
	for path != "/" {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		path = path[:max(strings.LastIndexByte(path, '/'), 1)]
	}
	return path
}
