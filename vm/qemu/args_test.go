package qemu

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got, one argument a line, with testdata/name.
func golden(t *testing.T, name string, args []string) {
	t.Helper()
	got := strings.Join(args, "\n") + "\n"
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run the test with -update", err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run with -update if that is meant\n got:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestOptions_Args(t *testing.T) {
	base := Options{
		Config: vm.Config{
			Name: "rockpool-root", Architecture: "amd64", Accel: vm.AccelTCG, Memory: 8 * vm.GiB, CPUs: 4, Boot: vm.BootKernel,
			Image:    vm.Image{Kernel: "/dist/vmlinuz", Initrd: "/dist/initrd.img", CommandLine: "root=UUID=u ro console=ttyS0"},
			Ports:    guest.Ports{SSH: 2222, Dashboard: 8080, IDE: 8081, Preview: 8082},
			Share:    vm.ShareVirtiofs,
			ShareDir: "/home/me/with, comma",
		},
		Disks: []Disk{
			{File: "/i/root.qcow2", Format: "qcow2", Serial: "rockpool-root"},
			{File: "/i/data.raw", Format: "raw", Serial: "rockpool-data"},
			{File: "/i/config.iso", Format: "raw", Serial: "rockpool-config", ReadOnly: true},
		},
		SerialLog: "serial.log",
	}
	tests := map[string]func(o *Options){
		"kernel-tcg-virtiofs": func(o *Options) {},
		"kernel-kvm-9p":       func(o *Options) { o.Accel, o.Share = vm.AccelKVM, vm.Share9P },
		"bios-no-share": func(o *Options) {
			o.Boot, o.Share = vm.BootBIOS, vm.ShareNone
			o.Disks = []Disk{{File: "/i/root.qcow2", Format: "qcow2", Serial: "rockpool-root", Boot: true}}
			o.FirmwareDirs = []string{"/tools/usr/share/qemu", "/tools/usr/share/seabios"}
			o.Ports = guest.Ports{SSH: 3333}
		},
		"uefi": func(o *Options) {
			o.Boot, o.FirmwareCode, o.FirmwareVars = vm.BootUEFI, "/fw/code.fd", "/i/uefi-vars.fd"
			o.Disks[0].Boot = true
		},
		"arm64": func(o *Options) { o.Architecture = "arm64" },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			o := base
			o.Disks = append([]Disk(nil), base.Disks...)
			change(&o)
			args := o.Args()
			golden(t, name, args)
			for _, arg := range args {
				if strings.Contains(arg, "hostfwd") && strings.Count(arg, "hostfwd=tcp:127.0.0.1:") != strings.Count(arg, "hostfwd=") {
					t.Errorf("a port is open to others: %s", arg)
				}
			}
		})
	}
}

func TestVirtiofsdOptions_Args(t *testing.T) {
	golden(t, "virtiofsd", VirtiofsdOptions{Dir: "/home/me/project", Sandbox: "namespace", HostUID: 1001, HostGID: 100, GuestUID: 1001, GuestGID: 1000}.Args())
}

func TestTrialArgs(t *testing.T) {
	golden(t, "trial-kernel", TrialArgs(vm.AccelKVM, "amd64", "/dist/vmlinuz", []string{"/fw"}))
	golden(t, "trial-bios", TrialArgs(vm.AccelKVM, "amd64", "", nil))
	golden(t, "trial-arm64", TrialArgs(vm.AccelKVM, "arm64", "/dist/vmlinuz", nil))
}
