//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/vm"
)

// TestWorkspaces_Faults takes from the VM, one after the other, what its agent
// lives on. Each time the user is told, nothing is lost, and what was asked
// for is done when the fault has ended.
func TestWorkspaces_Faults(t *testing.T) {
	takesLong(t)
	i := primary.up(t)
	keeper := i.create(t, "keeper")
	i.reach(t, keeper.ID, "running")
	i.inside(t, keeper, "echo precious >note.txt; sync")

	t.Run("FullDisk", func(t *testing.T) { fullDiskTest(t, i) })
	t.Run("NoPodman", func(t *testing.T) {
		mend := i.breakdown(t, asRockpool+"rockpool systemctl --user stop podman.socket podman.service",
			asRockpool+"rockpool systemctl --user start podman.socket")
		w := i.create(t, "no-podman")
		i.waitForMessage(t, w.ID, "creating", "Podman does not answer")
		mend()
		i.stopAndDelete(t, i.reach(t, w.ID, "running"))
	})
	t.Run("LockedDatabase", func(t *testing.T) {
		mend := i.breakdown(t, lockDatabase("BEGIN EXCLUSIVE"), unlockDatabase)
		status, body := i.ask(t, http.MethodPost, "/api/workspaces", map[string]string{"name": "locked", "image": ""})
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "in use by another program") {
			t.Errorf("a write to a locked database: %d %s", status, body)
		}
		if status, body := i.ask(t, http.MethodGet, "/api/workspaces/"+keeper.ID, nil); status != http.StatusOK {
			t.Errorf("reading meanwhile: %d %s", status, body)
		}
		mend()
		i.stopAndDelete(t, i.reach(t, i.create(t, "locked").ID, "running"))
	})
	t.Run("HeldDatabase", func(t *testing.T) {
		mend := i.breakdown(t, "sudo systemctl stop rockpool-agent\n"+lockDatabase("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE")+"\nsudo systemctl start rockpool-agent", unlockDatabase)
		eventually(t, readyLimit, "vm:status says what the agent waits for", func() bool {
			f := i.status(t).Failure
			return f != nil && f.Unit == "rockpool-agent.service" && strings.Contains(f.Message, "in use by another program") && strings.Contains(f.Message, "it waits")
		})
		mend()
		eventually(t, readyLimit, "the instance is ready again", func() bool { return i.status(t).Status == vm.Ready })
		i.stopAndDelete(t, i.reach(t, i.create(t, "held").ID, "running"))
	})
	t.Run("ClockJump", func(t *testing.T) {
		mend := i.breakdown(t, "sudo timedatectl set-ntp false", fmt.Sprintf("sudo date -s @%d; sudo timedatectl set-ntp true", time.Now().Unix()))
		w := i.create(t, "clock")
		i.sh(t, "sudo date -s '+3 days'")
		i.reach(t, w.ID, "running")
		i.sh(t, "sudo date -s '-4 days'")
		i.stop(t, w)
		i.api(t, "POST", "/api/workspaces/"+w.ID+"/start", nil, http.StatusOK)
		i.reach(t, w.ID, "running")
		mend()
		i.stopAndDelete(t, w)
	})
	t.Run("KeepsEnding", func(t *testing.T) {
		w := i.create(t, "crashes")
		i.reach(t, w.ID, "running")
		for range 3 {
			i.crash(t, w)
		}
		i.kill(t, w)
		i.waitForMessage(t, w.ID, "error", "ended by themselves 4 times")
		start := time.Now()
		i.remove(t, w)
		i.gone(t, w)
		t.Logf("deleted after a crash: %.1f s", time.Since(start).Seconds())
	})
	t.Run("MissingImage", func(t *testing.T) {
		w := i.api(t, "POST", "/api/workspaces", map[string]string{"name": "no-image", "image": "localhost/nothing:1"}, http.StatusCreated)
		i.waitForMessage(t, w.ID, "error", "localhost/nothing:1")
		i.remove(t, w)
	})

	if got := i.inside(t, i.reach(t, keeper.ID, "running"), "cat note.txt"); got != "precious" {
		t.Errorf("after the faults the note says %q", got)
	}
	i.stopAndDelete(t, keeper)
	nothingLeft(t, i)
}

// lockDatabase is a script that has another program lock the database by some
// SQL, and unlockDatabase one that ends it.
func lockDatabase(sql string) string {
	// The agent may be writing: SQLite waits for it, and we for no program that ended.
	return `sudo systemd-run --quiet --unit=e2e-lock --uid=rockpool node -e '
		const db = new (require("node:sqlite").DatabaseSync)("/opt/rockpool/rockpool.db", {timeout: 60000})
		db.exec("` + sql + `"); require("fs").writeFileSync("/tmp/e2e-lock", ""); setInterval(() => {}, 1e6)'
		until [ -e /tmp/e2e-lock ]; do
			systemctl is-active --quiet e2e-lock || { sudo journalctl --no-pager -n 20 -u e2e-lock; exit 1; }
			sleep 0.2
		done`
}

const unlockDatabase = "sudo systemctl stop e2e-lock; sudo systemctl reset-failed e2e-lock 2>/dev/null || true; sudo rm -f /tmp/e2e-lock"

// breakdown runs a script that takes something from the guest. The other one
// gives it back: when it is called, and in any case before the next test.
func (i *instance) breakdown(t *testing.T, take, giveBack string) (mend func()) {
	t.Helper()
	mended := false
	t.Cleanup(func() {
		if !mended {
			_, _ = i.trySh(context.Background(), giveBack)
		}
	})
	i.sh(t, take)
	return func() {
		t.Helper()
		i.sh(t, giveBack)
		mended = true
	}
}

// fullDiskTest leaves nothing free on the disk of the data. What is asked for
// then is refused, or ends in an error that can be tried again.
func fullDiskTest(t *testing.T, i *instance) {
	mend := i.breakdown(t, `while n=$(df --output=avail -B1 /opt/rockpool | tail -1); [ "$n" -gt 0 ]; do
		sudo fallocate -l "$n" "/opt/rockpool/filler-$n" || break; done`, "sudo sh -c 'rm -f /opt/rockpool/filler-*'")
	const words = "disk of the VM is full"
	status, body := i.ask(t, http.MethodPost, "/api/workspaces", map[string]string{"name": "full", "image": ""})
	t.Logf("on a full disk: %d %s", status, body)
	var w remote
	switch status {
	case http.StatusCreated: // the database had room left of its own
		if err := json.Unmarshal([]byte(body), &w); err != nil {
			t.Fatal(err)
		}
		i.waitForMessage(t, w.ID, "error", words)
	case http.StatusInsufficientStorage:
		if !strings.Contains(body, words) {
			t.Errorf("it does not say %q", words)
		}
	default:
		t.Errorf("want 201 or 507")
	}

	if out, err := i.trySh(t.Context(), "sudo rockpool-agent doctor"); err == nil || !strings.Contains(out, "make the data disk larger") {
		t.Errorf("doctor says\n%s", out)
	}
	mend()
	if w.ID == "" {
		w = i.create(t, "full")
	} else {
		i.api(t, "POST", "/api/workspaces/"+w.ID+"/start", nil, http.StatusOK)
	}
	i.stopAndDelete(t, i.reach(t, w.ID, "running"))
}
