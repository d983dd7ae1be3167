package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/rockpool/rootvm/vm"
)

// trialLimit is far more than a working KVM needs for the trial (about 1 s).
const trialLimit = 20 * time.Second

// accelerate decides between KVM and emulation. KVM is tried, not looked for:
// a device can exist, open, and still run nothing. note is one line for the
// user when the answer is emulation and was not asked for.
func (d *Driver) accelerate(ctx context.Context, c vm.Config) (accel, note string, err error) {
	if c.Accel == vm.AccelTCG {
		return vm.AccelTCG, "", nil
	}
	reason := d.kvmFault(ctx, c)
	switch {
	case reason == nil:
		return vm.AccelKVM, "", nil
	case ctx.Err() != nil:
		return "", "", ctx.Err()
	case c.Accel == vm.AccelKVM:
		return "", "", fmt.Errorf("kvm is asked for but does not work here: %w: leave the choice to the launcher (auto) or fix that", reason)
	}
	return vm.AccelTCG, fmt.Sprintf("running under emulation, several times slower than KVM: %s", reason), nil
}

// kvmFault says why KVM cannot be used, or nil.
func (d *Driver) kvmFault(ctx context.Context, c vm.Config) error {
	if host := runtime.GOARCH; host != c.Architecture {
		return fmt.Errorf("an %s guest on an %s host", c.Architecture, host)
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errors.New("this host has no /dev/kvm (virtualization is off in its firmware, or it is a VM itself)")
	case errors.Is(err, os.ErrPermission):
		return errors.New("this user may not open /dev/kvm (`sudo usermod -aG kvm $USER`, then log in again)")
	case err != nil:
		return fmt.Errorf("/dev/kvm does not open: %w", err)
	}
	f.Close()
	return d.remembered(trialKey(d.Programs, c), func() error {
		return d.trial(ctx, vm.AccelKVM, c.Architecture, c.Image.Kernel)
	})
}

// accelVerdict notes that a trial succeeded, for one boot of the host.
type accelVerdict struct {
	Key   string `json:"key"`
	Fault string `json:"fault"` // earlier releases noted failures too
}

func trialKey(p Programs, c vm.Config) string {
	return strings.Join([]string{vm.BootID(), strings.Join(p.QEMU, " "), c.Image.Kernel}, "|")
}

// errTrialTimeout tells of a busy host as well as of a KVM that does not work.
var errTrialTimeout = fmt.Errorf("a guest started, but was not up after %s", trialLimit)

// remembered tries, unless a trial of the same key has succeeded before. A failure
// is not kept: its cause may have passed, such as another hypervisor that had the
// device, and a KVM that refuses does so at once.
func (d *Driver) remembered(key string, try func() error) error {
	path := filepath.Join(d.Cache, "acceleration.json")
	var v accelVerdict
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &v) == nil && v.Key == key && v.Fault == "" {
		return nil
	}
	if err := try(); err != nil {
		return err
	}
	if b, err := json.Marshal(accelVerdict{Key: key}); err == nil && os.MkdirAll(d.Cache, 0o755) == nil {
		renameio.WriteFile(path, append(b, '\n'), 0o644, renameio.WithTempDir(d.Cache)) // a verdict lost is a verdict found again
	}
	return nil
}

// TrialArgs start a guest that ends by itself within a second: the image's
// kernel without a root file system, which panics, reboots and so ends QEMU;
// or, without a kernel, a BIOS that finds nothing to boot and says so.
func TrialArgs(accel, architecture, kernel string, firmwareDirs []string) []string {
	var a argList
	for _, dir := range firmwareDirs {
		a.add("-L", dir)
	}
	console := "ttyS0"
	a.add("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "512M")
	if architecture == "arm64" {
		console = "ttyAMA0"
		a.add("-machine", "virt")
	} else {
		a.add("-machine", "q35,graphics=off")
	}
	a.add(AccelArgs(accel)...)
	a.add("-serial", "stdio")
	if kernel != "" {
		a.add("-kernel", kernel, "-append", "console="+console+" panic=-1 root=/dev/none")
	}
	return a
}

// Lines that prove that the trial's guest ran as far as it could.
var trialProofs = []string{"Kernel panic - not syncing: VFS", "No bootable device"}

// trial runs the guest of TrialArgs until it has proved that accel works.
func (d *Driver) trial(ctx context.Context, accel, architecture, kernel string) error {
	ctx, cancel := context.WithTimeout(ctx, trialLimit)
	defer cancel()

	args := TrialArgs(accel, architecture, kernel, d.Programs.FirmwareDirs)
	cmd := exec.CommandContext(ctx, d.Programs.QEMU[0], append(d.Programs.QEMU[1:len(d.Programs.QEMU):len(d.Programs.QEMU)], args...)...)
	cmd.Env = append(os.Environ(), d.Programs.Env...)
	// Ctrl-C must not reach QEMU, whose words on it would be taken for a fault.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	out := &proofReader{proofs: trialProofs, found: cancel}
	var fault bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &fault

	err := cmd.Run()
	switch {
	case out.proved:
		return nil
	case ctx.Err() == context.DeadlineExceeded:
		return fmt.Errorf("with %s %w", accel, errTrialTimeout)
	case ctx.Err() != nil:
		return ctx.Err()
	case fault.Len() > 0:
		return fmt.Errorf("QEMU with %s says: %s", accel, firstLine(fault.Bytes()))
	}
	return fmt.Errorf("QEMU with %s ended early: %v", accel, err)
}

// proofReader looks for one of several strings in what is written to it.
type proofReader struct {
	proofs []string
	found  func()
	seen   []byte
	proved bool
}

func (p *proofReader) Write(b []byte) (int, error) {
	p.seen = append(p.seen, b...)
	for _, proof := range p.proofs {
		if !p.proved && bytes.Contains(p.seen, []byte(proof)) {
			p.proved = true
			p.found()
		}
	}
	if n := len(p.seen); n > 4096 {
		p.seen = p.seen[n-1024:]
	}
	return len(b), nil
}
