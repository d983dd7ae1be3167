//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// limitsOf is what the API says that a workspace may use.
type limitsOf struct {
	MemoryBytes int64
	Memory      struct{ Limit, Default, Max int64 }
}

func (i *instance) limits(t *testing.T, w remote) (l limitsOf) {
	t.Helper()
	status, body := i.ask(t, http.MethodGet, "/api/workspaces/"+w.ID+"/limits", nil)
	if err := json.Unmarshal([]byte(body), &l); err != nil || status != http.StatusOK {
		t.Fatalf("limits: %d %s, %v", status, body, err)
	}
	return l
}

func (i *instance) setMemory(t *testing.T, w remote, bytes int64) {
	t.Helper()
	if status, body := i.ask(t, http.MethodPut, "/api/workspaces/"+w.ID+"/limits", map[string]int64{"memoryBytes": bytes}); status != http.StatusOK {
		t.Fatalf("set limits: %d %s", status, body)
	}
}

// eat has a process of a workspace take so much memory, and keep it.
func (i *instance) eat(t *testing.T, w remote, mib int) {
	t.Helper()
	i.inside(t, w, fmt.Sprintf(`setsid node -e '
		const all = [], t = setInterval(() => {
			if (all.length < %d) all.push(Buffer.alloc(16 << 20, 1)); else { clearInterval(t); setInterval(() => {}, 1e6) }
		}, 50)' >/dev/null 2>&1 </dev/null &`, mib/16))
}

// shortage is what a workspace says that the kernel ended.
func (i *instance) shortage(t *testing.T, w remote) string {
	t.Helper()
	return i.api(t, http.MethodGet, "/api/workspaces/"+w.ID, nil, http.StatusOK).Shortage
}

func (i *instance) waitForShortage(t *testing.T, w remote, words string) {
	t.Helper()
	eventually(t, readyLimit, w.Name+" says "+words, func() bool { return strings.Contains(i.shortage(t, w), words) })
}

// TestMemory: whoever takes too much memory is the one that ends, and is told.
// The control plane answers all the while, and its processes are those of before.
func TestMemory(t *testing.T) {
	takesLong(t)
	i := primary.up(t)
	var all []remote
	for _, name := range []string{"greedy", "modest", "third"} {
		w := i.create(t, name)
		all = append(all, i.reach(t, w.ID, "running"))
	}
	greedy, modest, third := all[0], all[1], all[2]
	const machinery = "systemctl show -P MainPID rockpool-agent rockpool-caddy user@990"
	before := i.sh(t, machinery)
	answers := i.watchAnswers(t)

	t.Run("Sum", func(t *testing.T) { sumTest(t, i, greedy, modest, third) })
	t.Run("Own", func(t *testing.T) {
		i.setMemory(t, modest, 384<<20)
		if got := i.inside(t, modest, "cat /sys/fs/cgroup/memory.max"); got != fmt.Sprint(384<<20) {
			t.Errorf("while it runs it may use %s bytes", got)
		}
		i.eat(t, modest, 800)
		i.waitForShortage(t, modest, "A process was ended because the workspace used more than its 384 MiB of memory.")
		i.reach(t, modest.ID, "running")
	})
	t.Run("Whole", func(t *testing.T) { wholeTest(t, i, greedy) })

	answers(t)
	if after := i.sh(t, machinery); after != before {
		t.Errorf("processes that look after workspaces were %q, are %q", before, after)
	}
	for _, w := range all {
		i.stopAndDelete(t, i.reach(t, w.ID, "running"))
	}
	nothingLeft(t, i)
}

// watchAnswers asks the control plane again and again until its end is asked
// for; each question must be answered.
func (i *instance) watchAnswers(t *testing.T) (end func(*testing.T)) {
	t.Helper()
	password := i.login(t)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	type result struct {
		asked   int
		slowest time.Duration
		faults  []string
	}
	done := make(chan result, 1)
	go func() {
		var r result
		for ctx.Err() == nil {
			begin := time.Now()
			req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/api/workspaces", i.web), nil)
			if err == nil {
				req.SetBasicAuth("admin", password)
				var res *http.Response
				if res, err = noRedirects.Do(req); err == nil {
					_ = res.Body.Close()
					if res.StatusCode != http.StatusOK {
						r.faults = append(r.faults, res.Status)
					}
				}
			}
			if err != nil {
				r.faults = append(r.faults, err.Error())
			}
			r.asked, r.slowest = r.asked+1, max(r.slowest, time.Since(begin))
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		}
		done <- r
	}()
	return func(t *testing.T) {
		t.Helper()
		cancel()
		r := <-done
		t.Logf("asked %d times, the slowest answer took %.1f s", r.asked, r.slowest.Seconds())
		if len(r.faults) > 0 || r.asked < 10 {
			t.Errorf("%d of %d questions were not answered: %q", len(r.faults), r.asked, r.faults)
		}
	}
}

// sumTest has three workspaces take more together than the VM has for them.
func sumTest(t *testing.T, i *instance, greedy, modest, third remote) {
	most := i.limits(t, greedy).Memory.Max
	i.eat(t, modest, 160)
	i.eat(t, third, 160)
	i.eat(t, greedy, int(most>>20))
	i.waitForShortage(t, greedy, "A process was ended because the workspace used the most when all workspaces together needed more than the ")
	for _, w := range []remote{modest, third} {
		if got := i.shortage(t, w); got != "" {
			t.Errorf("%s says %q", w.Name, got)
		}
	}
	for _, w := range []remote{greedy, modest, third} {
		if got := i.api(t, http.MethodGet, "/api/workspaces/"+w.ID, nil, http.StatusOK); got.Status != "running" {
			t.Errorf("%s is %s", w.Name, got.Status)
		}
	}
	if page := i.page(t, greedy); !strings.Contains(page, `id="shortage">A process was ended`) {
		t.Error("its page does not say so")
	}

	kernel := i.sh(t, "sudo journalctl -k -o cat --no-pager | grep oom-kill:")
	if strings.Contains(kernel, "CONSTRAINT_NONE") || !strings.Contains(kernel, "oom_memcg=/user.slice/user-990.slice/user@990.service/workspaces.slice,") {
		t.Errorf("the kernel's log:\n%s", kernel)
	}
}

// page is a workspace's page.
func (i *instance) page(t *testing.T, w remote) string {
	t.Helper()
	res, body := i.get(t, 0, "/app/workspaces/"+w.ID, i.login(t))
	if res.StatusCode != http.StatusOK {
		t.Fatalf("the page of %s: %s", w.Name, res.Status)
	}
	return body
}

// wholeTest has the IDE of a workspace be its largest process when its memory is
// used up.
func wholeTest(t *testing.T, i *instance, w remote) {
	const look = "df -B1 --output=size /dev/shm | tail -n 1; ls /var/lib/installed"
	before := i.inside(t, w, "sudo touch /var/lib/installed; "+look)
	i.setMemory(t, w, 256<<20)
	i.stop(t, w)
	i.api(t, http.MethodPost, "/api/workspaces/"+w.ID+"/start", nil, http.StatusOK)
	w = i.reach(t, w.ID, "running")
	if w.Shortage != "" {
		t.Errorf("after its owner started it: %q", w.Shortage)
	}
	if got := i.inside(t, w, "cat /sys/fs/cgroup/memory.max"); got != fmt.Sprint(256<<20) {
		t.Errorf("after a start it may use %s bytes", got)
	}
	if got := i.inside(t, w, look); got != before || !strings.Contains(got, "installed") {
		t.Errorf("another limit of the memory made another container: %q, before %q", got, before)
	}

	i.inside(t, w, `for n in $(seq 12); do setsid sh -c '(head -c 24M /dev/zero; sleep 1000) | tail -c 24M' >/dev/null 2>&1 </dev/null & done`)
	const why = "The workspace ended because it used more than its 256 MiB of memory."
	i.waitForMessage(t, w.ID, "creating", why+" It is started again.")
	if w = i.reach(t, w.ID, "running"); w.Shortage != why {
		t.Errorf("when it runs again it says %q", w.Shortage)
	}
}

// manyWorkspaces is how many TestDown_ManyBusy stops: as many as a VM of 4 GB
// brings up under emulation within minutes. Sixty are stopped by
// TestControlPlane_Shutdown/many.
const manyWorkspaces = 12

// TestDown_ManyBusy stops a VM whose workspaces take no notice of being asked to
// end: the power is not cut, nothing that was acknowledged is lost, and all come
// back.
func TestDown_ManyBusy(t *testing.T) {
	takesLong(t)
	i := &instance{name: "rockpool-busy", ssh: 9622, web: 9680, env: []string{"ROOT_VM_MEMORY=4G"}}
	defer i.mage(t, "vm:destroy", "--yes")
	i.mage(t, "up")
	var all []remote
	for n := range manyWorkspaces {
		w := i.create(t, fmt.Sprintf("busy-%d", n))
		all = append(all, i.reach(t, w.ID, "running"))
	}
	for _, w := range all {
		i.inside(t, w, `echo acknowledged >ack; sync ack; setsid sh -c 'trap "" TERM; while :; do sleep 1; done' >/dev/null 2>&1 </dev/null & pkill -STOP -f code-server; true`)
	}

	start := time.Now()
	out := i.mage(t, "vm:stop")
	t.Logf("stopped %d workspaces in %.1f s", len(all), time.Since(start).Seconds())
	if s := i.status(t); !slices.Contains([]string{"asked the guest", "power button"}, s.LastStop) {
		t.Errorf("the last rung was %q:\n%s", s.LastStop, out)
	}

	i.mage(t, "up")
	if kernel := i.sh(t, "sudo journalctl -k -o cat --no-pager | grep -iE 'recovery (complete|required)|orphan' || true"); kernel != "" {
		t.Errorf("a file system was not unmounted:\n%s", kernel)
	}
	for _, w := range all {
		i.reachWithin(t, longLimit, w.ID, "running")
		if got := i.inside(t, w, "cat ack"); got != "acknowledged" {
			t.Errorf("%s has %q", w.Name, got)
		}
	}
}
