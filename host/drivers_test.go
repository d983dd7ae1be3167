package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/vm"
)

// hostPrograms puts stand-ins that answer --version on the PATH.
func hostPrograms(t *testing.T, versions map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, version := range versions {
		writeFile(t, filepath.Join(dir, name), fmt.Sprintf("#!/bin/sh\necho %s version %s\n", name, version))
		if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
}

// TestApp_HostsQEMUWithOurParts: a host with a good QEMU and nothing else gets
// virtiofsd and the firmware from the tools tree, where the instance needs them.
func TestApp_HostsQEMUWithOurParts(t *testing.T) {
	tools := os.Getenv("ROCKPOOL_TEST_TOOLS")
	if tools == "" {
		t.Skip("no tools tree: a build fetches it")
	}

	for _, dir := range []string{"/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/share/OVMF"} {
		if _, err := os.Stat(dir); err == nil {
			t.Skip("this host has one of its own: ", dir)
		}
	}

	hostPrograms(t, map[string]string{"qemu-system-x86_64": "9.2.0", "qemu-img": "9.2.0"})
	a, _ := app(t, Standalone(), "", map[string]string{"ROCKPOOL_CACHE": filepath.Join(tools, "../../../..")})
	for name, c := range map[string]struct {
		config               vm.Config
		virtiofsd, wantsUEFI bool
	}{
		"nothing shared": {vm.Config{Share: vm.Auto, Boot: vm.BootKernel}, false, false},
		"shared":         {vm.Config{Share: vm.Auto, ShareDir: "/src", Boot: vm.BootKernel}, true, false},
		"shared by 9p":   {vm.Config{Share: vm.Share9P, ShareDir: "/src", Boot: vm.BootKernel}, false, false},
		"UEFI":           {vm.Config{Share: vm.ShareNone, Boot: vm.BootUEFI}, false, true},
	} {
		c.config.Architecture = "amd64"
		programs, err := a.qemuPrograms(t.Context(), c.config)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(programs.QEMU[0], "/qemu-system-x86_64") || len(programs.QEMU) != 1 {
			t.Errorf("%s: QEMU %q is not the host's", name, programs.QEMU)
		}
		if got := len(programs.Virtiofsd) > 0; got != c.virtiofsd {
			t.Errorf("%s: virtiofsd %q", name, programs.Virtiofsd)
		}
		if got := programs.OVMFCode != ""; got != c.wantsUEFI {
			t.Errorf("%s: firmware %q", name, programs.OVMFCode)
		}
	}
}

// TestFirmware is that of the machine which is emulated, and none where the tree
// lacks it.
func TestFirmware(t *testing.T) {
	tools := &bootstrap.Tools{Dir: t.TempDir()}
	for architecture, prefix := range map[string]string{"amd64": "usr/share/OVMF/OVMF_", "arm64": "usr/share/AAVMF/AAVMF_"} {
		suffix := map[string]string{"amd64": "_4M.fd", "arm64": ".fd"}[architecture]
		wantCode, wantVariables := tools.Path(prefix+"CODE"+suffix), tools.Path(prefix+"VARS"+suffix)

		if code, variables := firmware(tools, architecture); code != "" || variables != "" {
			t.Errorf("%s, an empty tree: %q, %q", architecture, code, variables)
		}
		writeFile(t, wantCode, "")
		if code, variables := firmware(tools, architecture); code != "" || variables != "" {
			t.Errorf("%s, without variables: %q, %q", architecture, code, variables)
		}
		writeFile(t, wantVariables, "")
		if code, variables := firmware(tools, architecture); code != wantCode || variables != wantVariables {
			t.Errorf("%s: %q, %q; want %q, %q", architecture, code, variables, wantCode, wantVariables)
		}
	}
}

func TestPasswordFault(t *testing.T) {
	for code, want := range map[int]string{44: "were configured", 255: "ssh into the VM failed", 1: "exit code 1"} {
		if err := passwordFault(code); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("code %d: %v", code, err)
		}
	}
	if err := passwordFault(0); err != nil {
		t.Error(err)
	}
}
