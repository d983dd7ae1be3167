//go:build e2e

package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

// TestUp goes from whatever is there to a VM whose dashboard answers the host.
func TestUp(t *testing.T) {
	out := primary.mage(t, "up")
	for _, want := range []string{"http://localhost:9080/", "vm:ssh", "vm:password", "is ready"} {
		if !strings.Contains(out, want) {
			t.Errorf("up did not print %q", want)
		}
	}

	res, body := primary.get(t, 0, "/api/health", "")
	if res.StatusCode != http.StatusOK || body != "OK" {
		t.Errorf("health = %d %q, want 200 OK", res.StatusCode, body)
	}

	state := primary.status(t)
	if state.Status != vm.Ready || state.ReadyAfter <= 0 {
		t.Errorf("state = %s after %.1f s", state.Status, state.ReadyAfter)
	}

	// The dashboard answers before systemd has noted that Caddy is there.
	eventually(t, time.Minute, "each phase has its time", func() bool {
		seen := map[guest.Phase]bool{guest.PhaseInitrd: true} // only an initrd that systemd runs tells of itself
		for _, p := range primary.status(t).Phases {
			seen[p.Name] = true
		}
		return !slices.ContainsFunc(guest.Phases(), func(p guest.Phase) bool { return !seen[p] })
	})

	if again := primary.mage(t, "vm:start"); !strings.Contains(again, "already running") {
		t.Errorf("a second start said %q", again)
	}
}

// TestDestroy_AsksFirst leaves everything as it is without an answer.
func TestDestroy_AsksFirst(t *testing.T) {
	primary.up(t)
	primary.fails(t, []string{"permanently deletes", "nothing was deleted"}, "vm:destroy")
	if state := primary.status(t); state.Status != vm.Ready {
		t.Errorf("state = %s", state.Status)
	}
}

func TestHTTP_AuthenticationAndOrigins(t *testing.T) {
	primary.up(t)
	password := primary.password(t)
	if len(password) < 20 {
		t.Errorf("the generated password has %d characters", len(password))
	}

	for _, c := range []struct {
		server   int
		path     string
		password string
		status   int
		contains string
	}{
		{0, "/api/ping", "", http.StatusUnauthorized, ""},
		{0, "/api/ping", "wrong", http.StatusUnauthorized, ""},
		{0, "/api/ping", password, http.StatusOK, `{"status":"ok"}`},
		{0, "/api/auth/me", password, http.StatusOK, `"username":"admin"`},
		{0, "/", password, http.StatusFound, ""},
		{0, "/app/workspaces", password, http.StatusOK, "Rockpool"},
		{0, "/api/nothing", password, http.StatusNotFound, `"not_found"`},
		{1, "/workspace/nobody/", "", http.StatusUnauthorized, ""},
		{1, "/workspace/nobody/", password, http.StatusNotFound, "nobody"},
		{2, "/workspace/nobody/port/3000/", "", http.StatusUnauthorized, ""},
		{2, "/workspace/nobody/port/3000/", password, http.StatusNotFound, "nobody"},
	} {
		res, body := primary.get(t, c.server, c.path, c.password)
		if res.StatusCode != c.status || !strings.Contains(body, c.contains) {
			t.Errorf("server %d %s: %d %q, want %d with %q", c.server, c.path, res.StatusCode, body, c.status, c.contains)
		}
	}

	res, _ := primary.get(t, 0, "/app/workspaces", password)
	for _, h := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"} {
		if res.Header.Get(h) == "" {
			t.Errorf("the dashboard has no %s", h)
		}
	}
}

// TestForwards_LoopbackOnly reads the host's own table of listening sockets.
func TestForwards_LoopbackOnly(t *testing.T) {
	primary.up(t)
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}

	const listening = "0A"
	found := 0
	for _, line := range strings.Split(string(table), "\n")[1:] {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != listening {
			continue
		}
		for _, port := range []string{"233E", "2378", "2379", "237A"} { // 9022, 9080-9082
			if strings.HasSuffix(f[1], ":"+port) {
				found++
				if f[1] != "0100007F:"+port {
					t.Errorf("a forward listens on %s", f[1])
				}
			}
		}
	}

	if found != 4 {
		t.Errorf("%d forwards listen, want 4", found)
	}
}

func TestSSH(t *testing.T) {
	primary.up(t)
	t.Run("PassesTheExitCodeOn", func(t *testing.T) {
		out, err := primary.trySh(t.Context(), "echo here; exit 7")
		if err == nil || !strings.Contains(err.Error(), "7") || !strings.Contains(out, "here") {
			t.Errorf("error %v, output %q", err, out)
		}
	})

	t.Run("PassesArgumentsOnExactly", func(t *testing.T) {
		out := primary.mage(t, "vm:ssh", "--", "printf", "%s|", "a b", "$HOME", "'")
		if strings.TrimSpace(out) != "a b|$HOME|'|" {
			t.Errorf("printed %q", out)
		}
	})

	t.Run("SeesTheProject", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(primary.project, "hello.txt"), []byte("from the host\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := primary.mage(t, "vm:ssh", "--", "cat", "/mnt/rockpool/hello.txt"); out != "from the host\n" {
			t.Errorf("the guest reads %q", out)
		}
	})

	t.Run("RefusesPasswordsAndRoot", func(t *testing.T) {
		out := primary.sh(t, "sudo sshd -T")
		for _, want := range []string{"passwordauthentication no", "permitrootlogin no", "kbdinteractiveauthentication no"} {
			if !strings.Contains(out, want) {
				t.Errorf("sshd -T lacks %q", want)
			}
		}
	})
}

func TestGuest_Whole(t *testing.T) {
	primary.up(t)
	if out := primary.sh(t, "systemctl --failed --no-legend --plain"); out != "" {
		t.Errorf("failed units:\n%s", out)
	}
	if out := primary.sh(t, "sudo -u rockpool systemctl --user --failed --no-legend --plain"); out != "" {
		t.Errorf("failed units of rockpool:\n%s", out)
	}
	out := primary.sh(t, `node --version; npm --version; pm2 --version; podman --version; caddy version
		findmnt -no FSTYPE /mnt/rockpool; findmnt -no LABEL -T /opt/rockpool
		sudo ls /opt/rockpool/rockpool.db; test -s /etc/machine-id; hostname
		id rockpool; if sudo -u rockpool sudo -n true; then echo "rockpool has sudo"; exit 1; fi`)
	for _, want := range []string{"v24.", "podman version", "2.6.2", "virtiofs", "rockpool-data", "rockpool-test"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

// TestPodman runs a container as rockpool from an image made on the spot,
// with the guest's own programs in it.
func TestPodman(t *testing.T) {
	primary.up(t)
	podmanTest(t, primary, "pasta")
}

func podmanTest(t *testing.T, i *instance, network string) {
	t.Helper()
	out := i.sh(t, `
		root=$(mktemp -d); trap 'rm -rf "$root"' EXIT
		mkdir "$root/usr" "$root/tmp"; ln -s usr/bin "$root/bin"; ln -s usr/lib "$root/lib"; ln -s usr/lib64 "$root/lib64"
		tar -C "$root" -cf - . | sudo -u rockpool podman import --quiet - localhost/spot
		sudo -u rockpool podman run --rm --network=`+network+` --memory=96m --cpus=0.5 -v /usr:/usr:ro localhost/spot \
			sh -c 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max; id -u; ls /sys/class/net'
		sudo -u rockpool podman rmi --force localhost/spot`)
	for _, want := range []string{"100663296", "50000 100000", "\n0\n", "lo"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

// TestAgent_ComesBack kills the agent and waits for its successor.
func TestAgent_ComesBack(t *testing.T) {
	primary.up(t)
	before := primary.sh(t, "systemctl show -P MainPID rockpool-agent")
	primary.sh(t, "sudo kill -9 "+before)
	eventually(t, readyLimit, "the agent's successor", func() bool {
		after, err := primary.trySh(t.Context(), "systemctl show -P MainPID rockpool-agent")
		after = strings.TrimSpace(after)
		return err == nil && after != before && after != "0" && healthy(primary.web)
	})
}

// TestAgent_BrokenDatabase expects one clear line, in the journal and on the
// console, and nothing lost.
func TestAgent_BrokenDatabase(t *testing.T) {
	primary.up(t)
	primary.sh(t, `sudo systemctl stop rockpool-agent; cd /
		sudo sh -c 'mkdir /opt/rockpool/aside; mv /opt/rockpool/rockpool.db* /opt/rockpool/aside/
		echo this is no database, not at all, nothing like it >/opt/rockpool/rockpool.db; chown rockpool: /opt/rockpool/rockpool.db'`)

	_, cursor, _ := strings.Cut(primary.sh(t, `sudo journalctl --quiet -n 0 --show-cursor`), "-- cursor: ")
	primary.sh(t, "sudo systemctl start rockpool-agent || true")
	lines := primary.sh(t, `sudo journalctl -u rockpool-agent --after-cursor='`+cursor+`' -o cat --no-pager | grep '^rockpool-agent serve:'`)
	if strings.Count(lines, "\n") != 0 || !strings.Contains(lines, "/opt/rockpool/rockpool.db") || !strings.Contains(lines, "is corrupt") || !strings.Contains(lines, "restore a backup") {
		t.Errorf("want one clear line, the journal says:\n%s", lines)
	}

	t.Log(lines)
	eventually(t, readyLimit, "the line on the serial console", func() bool {
		console, err := os.ReadFile(filepath.Join(primary.dir(), vm.SerialLog))
		return err == nil && strings.Contains(string(console), "is corrupt")
	})

	if out := primary.sh(t, "sudo cat /opt/rockpool/rockpool.db"); !strings.Contains(out, "no database") {
		t.Errorf("the broken file was changed: %q", out)
	}
	primary.sh(t, `sudo sh -c 'rm /opt/rockpool/rockpool.db; mv /opt/rockpool/aside/* /opt/rockpool/; rmdir /opt/rockpool/aside'
		sudo systemctl reset-failed rockpool-agent; sudo systemctl restart rockpool-agent`)
	eventually(t, readyLimit, "health after the mend", func() bool { return healthy(primary.web) })
}
