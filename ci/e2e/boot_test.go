//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/vm/qemu"
)

// TestBoot_UEFI boots the image by its firmware, to health.
func TestBoot_UEFI(t *testing.T) {
	other.env = []string{"BOOT=uefi", "ROOT_VM_DISK_SIZE=8G"}
	defer func() { other.env = nil }()
	defer other.mage(t, "vm:destroy", "--yes")
	other.mage(t, "up")
	if state := other.status(t); state.Boot != "uefi" {
		t.Errorf("boot = %q", state.Boot)
	}
	// The root grew from the image's 4 GiB to the disk's 8.
	if size := other.sh(t, "test -d /sys/firmware/efi; df --output=size -BG / | tail -1"); size != "8G" {
		t.Errorf("root file system = %s, want 8G", size)
	}
}

// TestBoot_PlainCommandLine boots a copy of the image with exactly the command
// line of the user documentation: the BIOS, no configuration disk, no channel.
// Without a usable KVM, "-enable-kvm -cpu host" is left out, and the ports are
// the test's own.
func TestBoot_PlainCommandLine(t *testing.T) {
	takesLong(t)
	primary.up(t) // the programs that run it are known from its driver settings
	programs := driverPrograms(t)
	dir := t.TempDir()
	copyImage(t, filepath.Join(checkout, "dist", defaultImage(t)), filepath.Join(dir, "rockpool-root.qcow2"))
	if err := os.WriteFile(filepath.Join(primary.project, "plain.txt"), []byte("over 9p\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	argv := append([]string{}, programs.QEMU...)
	for _, d := range programs.FirmwareDirs {
		argv = append(argv, "-L", d)
	}

	argv = append(argv, strings.Fields(`-m 2G -smp 2
		-drive file=rockpool-root.qcow2,format=qcow2
		-virtfs local,path=`+primary.project+`,mount_tag=rockpool,security_model=mapped-xattr
		-device virtio-net-pci,netdev=net0
		-netdev user,id=net0,hostfwd=tcp::9280-:8080,hostfwd=tcp::9281-:8081,hostfwd=tcp::9282-:8082 -nographic`)...)

	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), programs.Env...)
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("console:\n%s", console.String())
		}
	}()

	start := time.Now()
	eventually(t, readyLimit, "health of the plain command line", func() bool { return healthy(9280) })
	t.Logf("power-on to health by BIOS: %.1f s", time.Since(start).Seconds())
}

// TestBookworm builds Debian 12 and its workspace image, boots it and runs a
// container with slirp4netns, then workspaces on its older Podman, which are
// cut off as they are on trixie, and which is held to the runtime's contract.
func TestBookworm(t *testing.T) {
	takesLong(t)
	other.env = []string{"SUITE=bookworm"}
	defer func() { other.env = nil }()
	defer other.mage(t, "vm:destroy", "--yes")
	other.mage(t, "up")
	if got := other.sh(t, ". /etc/os-release; echo $VERSION_CODENAME"); got != "bookworm" {
		t.Errorf("the guest is %q", got)
	}
	podmanTest(t, other, "slirp4netns")
	w := other.create(t, "on-bookworm")
	w = other.reach(t, w.ID, "running")
	limitsTest(t, other, w)
	ideTest(t, other, w)
	neighbour := other.create(t, "neighbour")
	neighbour = other.reach(t, neighbour.ID, "running")
	isolationTest(t, other, w, neighbour)
	contractTest(t, other)
}

// driverPrograms reads which QEMU the primary instance was started with.
func driverPrograms(t *testing.T) qemu.Programs {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(primary.dir(), "driver.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct{ Settings qemu.Driver }
	if err := json.Unmarshal(b, &d); err != nil || len(d.Settings.Programs.QEMU) == 0 {
		t.Fatalf("driver.json has no QEMU: %v\n%s", err, b)
	}
	return d.Settings.Programs
}

func defaultImage(t *testing.T) string {
	t.Helper()
	m := readManifest(t, "trixie")
	a, ok := m.Artifact("qcow2")
	if !ok {
		t.Fatal("the manifest names no qcow2")
	}
	return a.File
}

func readManifest(t *testing.T, suite string) builders.Manifest {
	t.Helper()
	m, err := builders.ReadManifest(filepath.Join(checkout, "dist", "rockpool-root-"+suite+"-amd64.manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func copyImage(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "--reflink=auto", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy the image: %v: %s", err, out)
	}
}
