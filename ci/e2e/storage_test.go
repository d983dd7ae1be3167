//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// setDisk changes a workspace's quota.
func (i *instance) setDisk(t *testing.T, w remote, bytes int64) {
	t.Helper()
	if status, body := i.ask(t, http.MethodPut, "/api/workspaces/"+w.ID+"/limits", map[string]int64{"diskBytes": bytes}); status != http.StatusOK {
		t.Fatalf("set limits: %d %s", status, body)
	}
}

// diskUsed is what the API says that a workspace's files take.
func (i *instance) diskUsed(t *testing.T, w remote) int64 {
	t.Helper()
	status, body := i.ask(t, http.MethodGet, "/api/workspaces/"+w.ID+"/limits", nil)
	var l struct{ DiskUsed *int64 }
	if err := json.Unmarshal([]byte(body), &l); err != nil || status != http.StatusOK || l.DiskUsed == nil {
		t.Fatalf("limits: %d %s, %v", status, body, err)
	}
	return *l.DiskUsed
}

// dataOnHost is what the data disk takes of the host's, in bytes.
func (i *instance) dataOnHost(t *testing.T) int64 {
	t.Helper()
	st, err := os.Stat(filepath.Join(i.dir(), "data.raw"))
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*syscall.Stat_t).Blocks * 512
}

// cleanKernel expects nothing of the kernel's about file systems of workspaces.
func cleanKernel(t *testing.T, i *instance) {
	t.Helper()
	if said := i.sh(t, "sudo journalctl -k -o cat --no-pager | grep -iE 'in-use|BTRFS (error|critical|warning)|I/O error|Remounting filesystem read-only' || true"); said != "" {
		t.Errorf("the kernel says:\n%s", said)
	}
}

// filesLeft lists what is shown of workspaces, in every mount namespace, and
// their directories.
const filesLeft = `sudo sh -c 'cat /proc/[0-9]*/task/*/mountinfo 2>/dev/null | grep -oE "` + guest.StorageDir + `/open/[0-9a-z]+" | sort -u; ls ` + guest.StorageDir + `/pool/files'`

// fillScript fills what a path is on until nothing more can be written, with what
// is not zero: zeros the host's file would not keep. What it prints is how many bytes
// could be written.
func fillScript(path, dd string) string {
	return fmt.Sprintf(`dd if=/dev/urandom of=%s bs=1M %s 2>/dev/null || true; stat -c %%s %s`, path, dd, path)
}

// TestStorage: a workspace fills what it may take, and nobody else notices; what
// it deletes, and what is deleted of it, the host has again.
func TestStorage(t *testing.T) {
	i := primary.up(t)
	full, other := i.create(t, "fills"), i.create(t, "beside")
	full, other = i.reach(t, full.ID, "running"), i.reach(t, other.ID, "running")
	const quota = 1 << 30
	i.setDisk(t, full, quota)
	i.inside(t, full, "echo acknowledged >ack; sync ack; sudo sh -c 'echo installed >/usr/local/bin/own; sync /usr/local/bin/own'")

	if got := i.inside(t, full, fillScript("big", "")); len(got) < 9 || len(got) > 10 || got > fmt.Sprint(quota) && len(got) == 10 {
		t.Errorf("with a quota of %d bytes it wrote %s", quota, got)
	}
	if used := i.diskUsed(t, full); used < quota*9/10 || used > quota {
		t.Errorf("its files take %d bytes", used)
	}
	if out := i.inside(t, full, "sudo touch /usr/local/lib/one 2>&1; sudo dd if=/dev/zero of=/usr/local/lib/two bs=1M count=64 2>&1 || echo refused"); !strings.Contains(out, "refused") {
		t.Errorf("its own layer has room beside a full home: %s", out)
	}
	i.inside(t, other, "dd if=/dev/zero of=x bs=1M count=64 conv=fsync 2>/dev/null; rm x")

	i.stop(t, full)
	i.api(t, "POST", "/api/workspaces/"+full.ID+"/start", nil, http.StatusOK)
	i.reach(t, full.ID, "running")
	if got := i.inside(t, full, "cat ack; cat /usr/local/bin/own"); got != "acknowledged\ninstalled" {
		t.Errorf("after a stop on a full disk it has %q", got)
	}
	i.setDisk(t, full, 2*quota)
	i.inside(t, full, "dd if=/dev/zero of=more bs=1M count=64 conv=fsync 2>/dev/null")

	before := i.dataOnHost(t)
	i.stopAndDelete(t, full)
	i.gone(t, full)
	eventually(t, readyLimit, "the host has the space again", func() bool {
		i.sh(t, "sudo sync")
		return i.dataOnHost(t) < before-quota*9/10
	})
	i.stopAndDelete(t, other)
	nothingLeft(t, i)
	cleanKernel(t, i)
}

// neverFull asks for another workspace's start and stop, and for its files, until
// its end is asked for: no answer may be that the disk is full.
func (i *instance) neverFull(t *testing.T, w remote) (end func(*testing.T)) {
	t.Helper()
	answers := i.watchAnswers(t)
	var stop atomic.Bool
	var wg sync.WaitGroup
	var rounds int
	var faults []string
	wg.Go(func() {
		for !stop.Load() {
			for _, step := range []struct{ verb, leadsTo string }{{"stop", "stopped"}, {"start", "running"}} {
				status, body := i.ask(t, "POST", "/api/workspaces/"+w.ID+"/"+step.verb, nil)
				if status != http.StatusOK {
					faults = append(faults, fmt.Sprintf("%s: %d %s", step.verb, status, body))
				}
				deadline := time.Now().Add(readyLimit)
				for now := ""; now != step.leadsTo; {
					var found remote
					if status, body = i.ask(t, "GET", "/api/workspaces/"+w.ID, nil); status == http.StatusOK {
						_ = json.Unmarshal([]byte(body), &found)
					}
					if now = found.Status; now == "error" || status == http.StatusInsufficientStorage || time.Now().After(deadline) {
						faults = append(faults, fmt.Sprintf("on its way to %s: %d %s", step.leadsTo, status, body))
						return
					}
					time.Sleep(200 * time.Millisecond)
				}
			}
			rounds++
		}
	})
	return func(t *testing.T) {
		t.Helper()
		stop.Store(true)
		wg.Wait()
		answers(t)
		t.Logf("meanwhile %s was stopped and started %d times", w.Name, rounds)
		if len(faults) > 0 || rounds == 0 {
			t.Errorf("%s: %d rounds, %q", w.Name, rounds, faults)
		}
	}
}

// crowd is how many workspaces fill the disk at once.
const crowd = 10

// TestStorage_Full fills everything that a workspace can fill, alone and with
// others at once, while it does nothing else and during every kind of job. Another
// workspace never hears of it, and what was acknowledged is there.
func TestStorage_Full(t *testing.T) {
	takesLong(t)
	i := &instance{name: "rockpool-full", ssh: 9622, web: 9680, env: []string{"ROOT_VM_MEMORY=4G", "ROOT_VM_DATA_SIZE=12G"}}
	defer i.mage(t, "vm:destroy", "--yes")
	i.mage(t, "up")
	witness := i.create(t, "witness")
	i.reach(t, witness.ID, "running")
	i.inside(t, witness, "echo precious >note; sync note")
	var all []remote
	for n := range crowd {
		w := i.create(t, fmt.Sprintf("full-%d", n))
		all = append(all, i.reachWithin(t, longLimit, w.ID, "running"))
		i.inside(t, w, "echo acknowledged >ack; sync ack")
	}

	for _, what := range []struct{ name, script string }{
		{"home", fillScript("big", "")},
		{"home with fsync", fillScript("big", "oflag=dsync bs=8M")},
		{"own layer", "sudo bash -c '" + fillScript("/var/big", "") + "'"},
		{"tmp", fillScript("/tmp/big", "conv=fsync")},
		{"shm", fillScript("/dev/shm/big", "")},
		{"inodes", "mkdir -p many; cd many; for d in $(seq 40); do mkdir -p $d; (cd $d; touch $(seq 2500)) || break; done; ls | wc -l"},
	} {
		t.Run("One/"+strings.ReplaceAll(what.name, " ", "_"), func(t *testing.T) {
			end := i.neverFull(t, witness)
			t.Logf("%s: %s", what.name, i.inside(t, all[0], what.script))
			i.inside(t, all[0], "rm -rf big many /tmp/big /dev/shm/big; sudo rm -f /var/big")
			end(t)
		})
	}

	t.Run("Ten", func(t *testing.T) {
		end := i.neverFull(t, witness)
		var wg sync.WaitGroup
		for n, w := range all {
			script := fillScript("big", []string{"", "conv=fsync"}[n%2])
			wg.Go(func() {
				out, err := i.trySh(context.WithoutCancel(t.Context()), "cd /; sudo -u rockpool podman exec -i rockpool-"+w.ID+" bash -s <<'END'\n"+script+"\nEND")
				t.Logf("%s: %s %v", w.Name, strings.TrimSpace(out), err)
			})
		}
		wg.Wait()
		t.Run("Create", func(t *testing.T) {
			w := i.create(t, "on-full")
			i.reach(t, w.ID, "running")
			i.stopAndDelete(t, w)
			i.gone(t, w)
		})
		t.Run("StopAndStart", func(t *testing.T) {
			i.stop(t, all[1])
			i.api(t, "POST", "/api/workspaces/"+all[1].ID+"/start", nil, http.StatusOK)
			i.reach(t, all[1].ID, "running")
		})
		t.Run("Quota", func(t *testing.T) {
			i.setDisk(t, all[2], 2<<30)
			i.setDisk(t, all[2], 1<<30)
		})
		t.Run("Restart", func(t *testing.T) {
			end(t)
			i.mage(t, "vm:stop")
			i.mage(t, "up")
			for _, w := range append(slices.Clone(all), witness) {
				i.reachWithin(t, longLimit, w.ID, "running")
			}
			end = i.neverFull(t, witness)
		})
		t.Run("Delete", func(t *testing.T) {
			i.stopAndDelete(t, all[3])
			i.gone(t, all[3])
			all = slices.Delete(all, 3, 4)
		})
		end(t)
	})

	for _, w := range all {
		if got := i.inside(t, w, "cat ack"); got != "acknowledged" {
			t.Errorf("%s has %q", w.Name, got)
		}
	}
	if got := i.inside(t, witness, "cat note"); got != "precious" {
		t.Errorf("the witness has %q", got)
	}
	for _, w := range append(all, witness) {
		i.stopAndDelete(t, w)
	}
	nothingLeft(t, i)
	cleanKernel(t, i)
}

// TestStorage_Mixed starts, stops, kills and retries thirty times in no order,
// with others running: no layer is mounted twice, no mount is left, and what each
// workspace wrote is what it has.
func TestStorage_Mixed(t *testing.T) {
	takesLong(t)
	i := primary.up(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var all []remote
	runs := map[string]bool{}
	wrote := map[string]int{}
	for n := range 4 {
		w := i.create(t, fmt.Sprintf("mixed-%d", n))
		all = append(all, w)
		runs[w.ID] = true
	}
	for _, w := range all {
		i.reachWithin(t, longLimit, w.ID, "running")
	}

	for n := range 30 {
		w := all[random.IntN(len(all))]
		switch action := random.IntN(4); {
		case !runs[w.ID]:
			i.api(t, "POST", "/api/workspaces/"+w.ID+"/start", nil, http.StatusOK)
			if action == 0 { // another thought before it runs
				i.api(t, "POST", "/api/workspaces/"+w.ID+"/stop", nil, http.StatusOK)
				i.reach(t, w.ID, "stopped")
				break
			}
			i.reach(t, w.ID, "running")
			runs[w.ID] = true
		case action == 0:
			i.kill(t, w)
			eventually(t, readyLimit, "the end of "+w.Name+" is noticed or it runs again", func() bool {
				out, err := i.trySh(t.Context(), "cd /; sudo -u rockpool podman exec rockpool-"+w.ID+" true")
				return err == nil && !strings.Contains(out, "Error")
			})
			now := i.api(t, "GET", "/api/workspaces/"+w.ID, nil, http.StatusOK)
			if now.Status == "error" { // it was killed too often
				i.api(t, "POST", "/api/workspaces/"+w.ID+"/start", nil, http.StatusOK)
			}
			i.reach(t, w.ID, "running")
		case action == 1:
			i.inside(t, w, fmt.Sprintf("echo %d >last; sudo sh -c 'echo %d >/var/lib/last; sync /var/lib/last'; sync last", n, n))
			wrote[w.ID] = n
		default:
			i.stop(t, w)
			runs[w.ID] = false
		}
	}

	for _, w := range all {
		if !runs[w.ID] {
			i.api(t, "POST", "/api/workspaces/"+w.ID+"/start", nil, http.StatusOK)
			i.reach(t, w.ID, "running")
		}
		if n, ok := wrote[w.ID]; ok {
			if got, want := i.inside(t, w, "cat last /var/lib/last"), fmt.Sprintf("%d\n%d", n, n); got != want {
				t.Errorf("%s has %q, want %q", w.Name, got, want)
			}
		}
		i.stopAndDelete(t, w)
	}
	nothingLeft(t, i)
	cleanKernel(t, i)
}

// oldDisk names the data disk of an instance of an earlier release, which
// TestStorage_TakesOver takes a copy of, and beside it, in a file with .tsv in
// the place of .raw, what has to be found: lines of a workspace's name, a command
// in it and what that prints, parted by tabs.
const oldDisk = "ROCKPOOL_OLD_DISK"

// TestStorage_TakesOver gives a VM the data disk of an earlier release.
func TestStorage_TakesOver(t *testing.T) {
	takesLong(t)
	disk := os.Getenv(oldDisk)
	if disk == "" {
		t.Skip("no disk of an earlier release: name one in " + oldDisk)
	}
	facts, err := os.ReadFile(strings.TrimSuffix(disk, ".raw") + ".tsv")
	if err != nil {
		t.Fatal(err)
	}

	i := &instance{name: "rockpool-taken", ssh: 9722, web: 9780}
	defer i.mage(t, "vm:destroy", "--yes")
	i.mage(t, "up")
	i.mage(t, "vm:stop")
	if out, err := exec.CommandContext(t.Context(), "cp", "--sparse=always", disk, filepath.Join(i.dir(), "data.raw")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Remove(filepath.Join(i.dir(), "known_hosts")); err != nil { // the disk has the machine's keys
		t.Fatal(err)
	}
	i.mage(t, "up")
	i.secret = ""

	_, body := i.get(t, 0, "/api/workspaces?limit=100", i.login(t))
	var list struct{ Items []remote }
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.Items) == 0 {
		t.Fatalf("%v: %s", err, body)
	}
	byName := map[string]remote{}
	for _, w := range list.Items {
		if w.Status == "stopped" {
			i.api(t, "POST", "/api/workspaces/"+w.ID+"/start", nil, http.StatusOK)
		}
		byName[w.Name] = i.reachWithin(t, longLimit, w.ID, "running")
	}
	checked := 0
	for line := range strings.Lines(string(facts)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3)
		if len(f) != 3 {
			t.Fatalf("not a fact: %q", line)
		}
		if got := i.inside(t, byName[f[0]], f[1]); got != f[2] {
			t.Errorf("%s: %s: %q, want %q", f[0], f[1], got, f[2])
		}
		checked++
	}
	if checked == 0 {
		t.Error("nothing was compared")
	}
	if left := i.sh(t, "cd /; sudo -u rockpool podman volume ls -q"); left != "" {
		t.Errorf("volumes are left: %s", left)
	}
	for _, w := range byName {
		i.stopAndDelete(t, w)
	}
	nothingLeft(t, i)
	cleanKernel(t, i)
}
