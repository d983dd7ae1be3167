// Package qemu is the driver that runs an instance as a QEMU process on Linux,
// with a virtiofsd beside it. Argument lists are built by pure functions from
// typed structs. It owns the disks of an instance and, below [Driver.Cache],
// the verdict on hardware acceleration. It imports vm and guest, nothing else of this
// project.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rockpool/rootvm/vm"
)

// Programs are the programs the driver runs, each as the argument vector that
// its own arguments are appended to: either a host's program, or one of a
// tools tree behind that tree's ELF loader.
type Programs struct {
	QEMU         []string `json:"qemu"`                   // qemu-system-x86_64 or -aarch64
	QEMUImg      []string `json:"qemuImg"`                // qemu-img
	Virtiofsd    []string `json:"virtiofsd"`              // Rust, at least 1.13; empty when there is none
	FirmwareDirs []string `json:"firmwareDirs,omitempty"` // each becomes -L
	OVMFCode     string   `json:"ovmfCode,omitempty"`     // firmware of UEFI boots, read only
	OVMFVars     string   `json:"ovmfVars,omitempty"`     // template of its variables
	Env          []string `json:"env,omitempty"`          // added to the environment of all of them
}

// Oldest versions the driver works with.
var (
	MinQEMU      = vm.Version{8, 2}
	MinVirtiofsd = vm.Version{1, 13} // --translate-uid
)

// ProgramVersion asks the program at argv for its --version.
func ProgramVersion(ctx context.Context, argv, env []string) (vm.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:len(argv):len(argv)], "--version")...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return vm.Version{}, fmt.Errorf("version of %s: %w: %s", filepath.Base(argv[len(argv)-1]), err, firstLine(out))
	}
	v, found := vm.ParseVersion(string(out))
	if !found {
		return vm.Version{}, fmt.Errorf("version of %s: %q is not understood", filepath.Base(argv[len(argv)-1]), firstLine(out))
	}
	return v, nil
}

// ErrTooOld says that the host's programs are absent or too old; a tools tree
// has newer ones.
var ErrTooOld = errors.New("absent or too old")

// Detect finds the host's own programs for a Debian architecture. It fails
// with [ErrTooOld] unless QEMU is at least [MinQEMU] and qemu-img is there. A
// missing or old virtiofsd only leaves Virtiofsd empty.
func Detect(ctx context.Context, architecture string) (Programs, error) {
	name := SystemProgram(architecture)
	path, err := exec.LookPath(name)
	if err != nil {
		return Programs{}, fmt.Errorf("the host's %s: %w", name, ErrTooOld)
	}
	p := Programs{QEMU: []string{path}}
	v, err := ProgramVersion(ctx, p.QEMU, nil)
	if err != nil {
		return Programs{}, err
	}
	if v.Less(MinQEMU) {
		return Programs{}, fmt.Errorf("the host's %s is %s, %s is needed: %w", name, v, MinQEMU, ErrTooOld)
	}

	img, err := exec.LookPath("qemu-img")
	if err != nil {
		return Programs{}, fmt.Errorf("the host's qemu-img: %w", ErrTooOld)
	}
	p.QEMUImg = []string{img}

	for _, dir := range []string{"/usr/libexec", "/usr/lib", "/usr/lib/qemu", "/usr/bin"} {
		argv := []string{filepath.Join(dir, "virtiofsd")}
		if _, err := os.Stat(argv[0]); err != nil {
			continue
		}
		if v, err := ProgramVersion(ctx, argv, nil); err == nil && !v.Less(MinVirtiofsd) {
			p.Virtiofsd = argv
			break
		}
	}

	p.OVMFCode, p.OVMFVars = firmware(architecture)
	return p, nil
}

// SystemProgram is the QEMU program of a Debian architecture.
func SystemProgram(architecture string) string {
	if architecture == "arm64" {
		return "qemu-system-aarch64"
	}
	return "qemu-system-x86_64"
}

// firmware finds the UEFI firmware where Debian and Ubuntu keep it.
func firmware(architecture string) (code, vars string) {
	pairs := [][2]string{
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
	}
	if architecture == "arm64" {
		pairs = [][2]string{{"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"}}
	}
	for _, p := range pairs {
		if _, err := os.Stat(p[0]); err == nil {
			return p[0], p[1]
		}
	}
	return "", ""
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line
}
