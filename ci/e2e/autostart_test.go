//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestRockpool_Autostart has a real systemd start an instance with its host and
// stop it with it. The host is the VM; what is started there is a stand-in, put
// in the program's place once it has made the service, which writes down how it
// is called. Its start ends as that of a guest that is not ready in time, and the
// machine, which runs on, is stopped all the same.
func TestRockpool_Autostart(t *testing.T) {
	takesLong(t)
	primary.up(t)
	program := filepath.Join(primary.project, "rockpool")
	compile := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/rockpool")
	compile.Dir = checkout
	compile.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+runtime.GOARCH)
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	primary.sh(t, `mkdir -p ~/bin ~/.local/state/rockpool-root-vm/instances/inner
		install -m 755 /mnt/rockpool/rockpool ~/bin/rockpool
		echo '{"name":"inner","memory":1073741824,"cpus":2,"ports":{"ssh":2299,"dashboard":8099}}' >~/.local/state/rockpool-root-vm/instances/inner/instance.json
		export XDG_RUNTIME_DIR=/run/user/$(id -u)
		! ~/bin/rockpool vm autostart on --name inner 2>refused # the VM has no polkit
		grep -F 'sudo loginctl enable-linger admin' refused
		sudo loginctl enable-linger admin; rm refused
		~/bin/rockpool vm autostart on --name inner
		systemd-analyze --user verify ~/.config/systemd/user/rockpool-inner.service
		printf '#!/bin/sh\necho "$(cat /proc/sys/kernel/random/boot_id) $*" >>~/calls\nsync\ntest "$1" = down\n' >~/bin/rockpool`)
	first := primary.boot(t)
	primary.reboot(t, first)
	second := primary.boot(t)
	primary.reboot(t, second)

	home := strings.TrimSpace(primary.sh(t, "echo ~"))
	instance := " --name inner --state " + home + "/.local/state/rockpool-root-vm --cache " + home + "/.cache/rockpool-root-vm"
	start := " vm start" + instance + " --memory 1073741824 --cpus 2 --ssh-port 2299 --web-port 8099 --qemu auto --wait 600"
	want := []string{second + start, second + " down" + instance, primary.boot(t) + start}
	if got := primary.sh(t, "cat ~/calls"); got != strings.Join(want, "\n") {
		t.Errorf("called\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	out := primary.sh(t, `install -m 755 /mnt/rockpool/rockpool ~/bin/rockpool
		export XDG_RUNTIME_DIR=/run/user/$(id -u)
		~/bin/rockpool vm autostart off --name inner
		systemctl --user list-unit-files 'rockpool-*' || test $? -eq 1 # that none is left
		sudo loginctl disable-linger admin
		rm -r ~/bin ~/calls ~/.local/state/rockpool-root-vm`)
	if !strings.Contains(out, "no more") || !strings.Contains(out, "0 unit files") {
		t.Errorf("off: %s", out)
	}
}

// boot names the guest's present boot.
func (i *instance) boot(t *testing.T) string {
	t.Helper()
	return i.sh(t, "cat /proc/sys/kernel/random/boot_id")
}

// reboot restarts the guest and waits until it serves again.
func (i *instance) reboot(t *testing.T, before string) {
	t.Helper()
	_, _ = i.trySh(t.Context(), "sudo systemctl reboot") // the connection may end first
	eventually(t, readyLimit, "another boot", func() bool {
		now, err := i.trySh(t.Context(), "cat /proc/sys/kernel/random/boot_id")
		return err == nil && strings.TrimSpace(now) != before && healthy(i.web)
	})
}
