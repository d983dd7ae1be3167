//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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
// the test's own. First nothing is given, and the console says how to get in;
// then a key and a password are, as the documentation shows, by SMBIOS, and a
// user's name by fw_cfg.
func TestBoot_PlainCommandLine(t *testing.T) {
	takesLong(t)
	primary.up(t) // the programs that run it are known from its driver settings
	dir := t.TempDir()
	copyImage(t, filepath.Join(checkout, "dist", defaultImage(t)), filepath.Join(dir, "rockpool-root.qcow2"))
	if err := os.WriteFile(filepath.Join(primary.project, "plain.txt"), []byte("over 9p\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	t.Run("nothing given", func(t *testing.T) {
		vm := bootPlain(t, dir)
		var own string
		eventually(t, readyLimit, "the password on the console", func() bool {
			_, own, _ = strings.Cut(vm.console.String(), "log in     as admin with the password ")
			own, _, _ = strings.Cut(own, "\r\n")
			return own != "" && strings.Contains(vm.console.String(), "once a key is given")
		})
		if !strings.Contains(vm.console.String(), "http://localhost:8080/ where the host forwards the port") || !strings.Contains(vm.console.String(), "http://10.0.2.15:8080/") {
			t.Error("the console does not say where the dashboard is")
		}
		if got := vm.dashboard(t, "admin", own); got != http.StatusOK {
			t.Errorf("the password of the console: %d", got)
		}
	})
	t.Run("key and password given", func(t *testing.T) {
		key := filepath.Join(dir, "key")
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
		public, err := os.ReadFile(key + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		vm := bootPlain(t, dir,
			"-smbios", "type=11,value=io.systemd.credential:ssh.authorized_keys.admin="+strings.TrimSpace(string(public)),
			"-smbios", "type=11,value=io.systemd.credential:rockpool.dashboard.password=correct-horse",
			"-fw_cfg", "name=opt/io.systemd.credentials/rockpool.dashboard.username,string=me")

		// The old password lies on the disk; the given one takes its place.
		eventually(t, readyLimit, "the text on the console", func() bool {
			return strings.Contains(vm.console.String(), "log in     as me with the password that this VM was given")
		})
		if got := vm.dashboard(t, "me", "correct-horse"); got != http.StatusOK {
			t.Errorf("the given password: %d", got)
		}
		if got := vm.dashboard(t, "me", "wrong-horse"); got != http.StatusUnauthorized {
			t.Errorf("another password: %d", got)
		}
		out, err := exec.CommandContext(t.Context(), "ssh", "-i", key, "-p", "9222",
			"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
			"admin@127.0.0.1", "sudo true && id -un").CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "admin" {
			t.Errorf("ssh with the given key: %v: %s", err, out)
		}
		if console := vm.console.String(); strings.Contains(console, "correct-horse") {
			t.Error("the given password is on the console")
		}
	})
}

// plainVM is a QEMU that the test started itself.
type plainVM struct{ console *console }

// bootPlain starts the image in dir with the documented command line and more
// options, and waits until it serves. It is cut off when the test ends.
func bootPlain(t *testing.T, dir string, options ...string) plainVM {
	t.Helper()
	programs := driverPrograms(t)
	argv := append([]string{}, programs.QEMU...)
	for _, d := range programs.FirmwareDirs {
		argv = append(argv, "-L", d)
	}

	argv = append(argv, strings.Fields(`-m 2G -smp 2
		-drive file=rockpool-root.qcow2,format=qcow2
		-virtfs local,path=`+primary.project+`,mount_tag=rockpool,security_model=mapped-xattr
		-device virtio-net-pci,netdev=net0
		-netdev user,id=net0,hostfwd=tcp::9280-:8080,hostfwd=tcp::9281-:8081,hostfwd=tcp::9282-:8082,hostfwd=tcp:127.0.0.1:9222-:22 -nographic`)...)
	argv = append(argv, options...)

	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), programs.Env...)
	vm := plainVM{&console{}}
	cmd.Stdout, cmd.Stderr = vm.console, vm.console
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("console:\n%s", vm.console.String())
		}
	})

	start := time.Now()
	eventually(t, readyLimit, "health of the plain command line", func() bool { return healthy(9280) })
	t.Logf("power-on to health by BIOS: %.1f s", time.Since(start).Seconds())
	return vm
}

// dashboard logs in and returns the answer's status.
func (plainVM) dashboard(t *testing.T, user, password string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:9280/app/workspaces", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(user, password)
	res, err := noRedirects.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode
}

// console keeps what a machine writes while the test reads it.
type console struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(b)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
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
