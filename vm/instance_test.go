package vm

import (
	"strings"
	"testing"

	"github.com/rockpool/rootvm/guest"
)

// anything is a driver that can do all there is.
var anything = Capabilities{
	Architectures: []string{"amd64", "arm64"},
	Boots:         []string{BootKernel, BootBIOS, BootUEFI},
	Shares:        []string{Auto, ShareVirtiofs, Share9P, ShareNone},
	Accels:        []string{Auto, AccelKVM, AccelTCG},
}

func validConfig() Config {
	c := Config{Image: Image{Disk: "/i.qcow2", Kernel: "/k", Initrd: "/r", CommandLine: "root=UUID=u"}}
	c.choose(anything)
	c.FillDefaults()
	return c
}

func TestConfig_Validate(t *testing.T) {
	if err := validConfig().Validate(anything); err != nil {
		t.Fatalf("the default: %v", err)
	}
	c := validConfig()
	c.Name, c.Memory, c.CPUs, c.Share, c.Boot, c.ShareDir = "../x", 1, 0, "nfs", "floppy", "relative"
	c.Ports = guest.Ports{SSH: 2222, Dashboard: 2222, IDE: 70000}
	c.Image = Image{Renew: "go tool mage rootvm:build"}
	err := c.Validate(anything)
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, want := range []string{"instance name", "memory", "cpus", "share", "boot mode", "2222", "70000", "rootvm:build", "absolute"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the faults do not mention %q:\n%v", want, err)
		}
	}
}

func TestConfig_Validate_kernelBootNeedsKernel(t *testing.T) {
	c := validConfig()
	c.Image.Kernel = ""
	if err := c.Validate(anything); err == nil || !strings.Contains(err.Error(), "bios or uefi") {
		t.Errorf("got %v", err)
	}
	c.Boot = BootBIOS
	if err := c.Validate(anything); err != nil {
		t.Errorf("bios: %v", err)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{8 * GiB: "8G", 1536 * MiB: "1536M", 23*GiB + 900*MiB: "23.9G", 12: "12 bytes"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

// TestConfig_Validate_byDriver asks a driver that can do little.
func TestConfig_Validate_byDriver(t *testing.T) {
	can := Capabilities{Architectures: []string{"arm64"}, Boots: []string{BootUEFI}, Shares: []string{ShareVirtiofs, ShareNone}, Accels: []string{"vz"}, MinCPUs: 2}
	c := Config{Image: Image{Disk: "/disk.img"}, CPUs: 1}
	c.choose(can)
	c.FillDefaults()
	if c.Architecture != "arm64" || c.Boot != BootUEFI || c.Share != ShareVirtiofs || c.Accel != "vz" {
		t.Errorf("filled %+v", c)
	}
	if err := c.Validate(can); err == nil || err.Error() != "1 cpus: give at least 2" {
		t.Errorf("got %v", err)
	}
	c.CPUs, c.Share = 2, Share9P
	if err := c.Validate(can); err == nil || err.Error() != `share "9p": use one of [virtiofs none]` {
		t.Errorf("got %v", err)
	}
}

func TestImage_Cure(t *testing.T) {
	if got := (Image{Renew: "make image"}).Cure(); got != "build it again with `make image`" {
		t.Error(got)
	}
	if got := (Image{}).Cure(); strings.Contains(got, "`") {
		t.Errorf("it names a command: %s", got)
	}
}
