//go:build e2e

package e2e

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/guest"
)

//go:embed testdata/preview.js
var previewApp string

// guestSeen is the guest as QEMU's user network numbers it.
const guestSeen = "10.0.2.15"

// secretToken opens the private repository, and must be found nowhere.
const secretToken = "e2e-t0ken-6b1f0c9d2a"

// remote is a workspace as the API tells it.
type remote struct {
	ID, Name, Status, VMIP, ErrorMessage, Shortage string
}

// ask asks the dashboard's API and returns the status and the body.
func (i *instance) ask(t *testing.T, method, path string, body any) (int, string) {
	t.Helper()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		in = bytes.NewReader(b)
	}

	req, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("http://127.0.0.1:%d%s", i.web, path), in)
	if err != nil {
		t.Fatal(err)
	}

	req.SetBasicAuth("admin", i.login(t))
	req.Header.Set("Content-Type", "application/json")
	res, err := noRedirects.Do(req)
	if err != nil {
		t.Fatal(err)
	}

	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// api asks for a workspace, or for what is done with one; want is the status.
func (i *instance) api(t *testing.T, method, path string, body any, want int) remote {
	t.Helper()
	status, answer := i.ask(t, method, path, body)
	if status != want {
		t.Fatalf("%s %s: %d\n%s, want %d", method, path, status, answer, want)
	}
	var w remote
	if strings.HasPrefix(answer, "{") {
		if err := json.Unmarshal([]byte(answer), &w); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// create asks for a blank workspace.
func (i *instance) create(t *testing.T, name string) remote {
	t.Helper()
	return i.api(t, "POST", "/api/workspaces", map[string]string{"name": name, "image": ""}, http.StatusCreated)
}

// waitForMessage waits until a workspace in a state says some words.
func (i *instance) waitForMessage(t *testing.T, id, status, words string) remote {
	t.Helper()
	var w remote
	eventually(t, readyLimit, "workspace "+status+" that says "+strconv.Quote(words), func() bool {
		w = i.api(t, "GET", "/api/workspaces/"+id, nil, http.StatusOK)
		return w.Status == status && strings.Contains(w.ErrorMessage, words)
	})
	return w
}

// reach waits until a workspace is in a state, and fails at once on an error.
func (i *instance) reach(t *testing.T, id, status string) remote {
	t.Helper()
	return i.reachWithin(t, readyLimit, id, status)
}

func (i *instance) reachWithin(t *testing.T, limit time.Duration, id, status string) remote {
	t.Helper()
	var w remote
	eventually(t, limit, "workspace "+status, func() bool {
		w = i.api(t, "GET", "/api/workspaces/"+id, nil, http.StatusOK)
		if w.Status == "error" {
			t.Fatalf("workspace %s: %s", w.Name, w.ErrorMessage)
		}
		return w.Status == status
	})
	return w
}

// stop stops a workspace that runs and waits until it has.
func (i *instance) stop(t *testing.T, w remote) {
	t.Helper()
	i.api(t, "POST", "/api/workspaces/"+w.ID+"/stop", nil, http.StatusOK)
	i.reach(t, w.ID, "stopped")
}

// remove deletes a workspace that does not run.
func (i *instance) remove(t *testing.T, w remote) {
	t.Helper()
	i.api(t, "DELETE", "/api/workspaces/"+w.ID, nil, http.StatusNoContent)
}

// gone waits until a workspace that was deleted is.
func (i *instance) gone(t *testing.T, w remote) {
	t.Helper()
	eventually(t, readyLimit, "the end of "+w.Name, func() bool {
		res, _ := i.get(t, 0, "/api/workspaces/"+w.ID, i.login(t))
		return res.StatusCode == http.StatusNotFound
	})
}

// stopAndDelete stops a workspace that runs and deletes it.
func (i *instance) stopAndDelete(t *testing.T, w remote) {
	t.Helper()
	i.stop(t, w)
	i.remove(t, w)
}

// crash kills the first process of a workspace that runs, as the kernel does
// when memory is short, and waits until the workspace runs again.
func (i *instance) crash(t *testing.T, w remote) {
	t.Helper()
	before := i.rawSteps(t, w)
	i.kill(t, w)
	start := time.Now()
	eventually(t, readyLimit, "the end of "+w.Name+" is noticed", func() bool { return i.rawSteps(t, w) != before })
	t.Logf("crash to noticed: %.1f s", time.Since(start).Seconds())
	i.reach(t, w.ID, "running")
	t.Logf("crash to running: %.1f s: %s", time.Since(start).Seconds(), i.steps(t, w))
}

// kill ends a workspace's container behind everybody's back.
func (i *instance) kill(t *testing.T, w remote) {
	t.Helper()
	i.sh(t, asRockpool+"sudo kill -KILL $(rockpool podman inspect --format '{{.State.Pid}}' rockpool-"+w.ID+")")
}

func (i *instance) rawSteps(t *testing.T, w remote) string {
	t.Helper()
	_, body := i.get(t, 0, "/api/workspaces/"+w.ID+"/steps", i.login(t))
	return body
}

// steps tells how long each step of a workspace's last job took.
func (i *instance) steps(t *testing.T, w remote) string {
	t.Helper()
	body := i.rawSteps(t, w)
	var steps []struct {
		Name               string
		StartedAt, EndedAt time.Time
	}
	if err := json.Unmarshal([]byte(body), &steps); err != nil || len(steps) == 0 {
		t.Fatalf("the steps of %s: %v: %s", w.Name, err, body)
	}
	var words []string
	for _, s := range steps {
		words = append(words, fmt.Sprintf("%s %.1f s", s.Name, s.EndedAt.Sub(s.StartedAt).Seconds()))
	}
	return strings.Join(words, ", ")
}

// asRockpool is a function of the guest's shell: it runs a command as the user
// of the containers, with its session's bus and sockets.
const asRockpool = `cd /; rockpool() { sudo -u rockpool XDG_RUNTIME_DIR=/run/user/$(id -u rockpool) "$@"; }
`

// inside runs a script in a workspace as its user.
func (i *instance) inside(t *testing.T, w remote, script string) string {
	t.Helper()
	return i.sh(t, "cd /; sudo -u rockpool podman exec -i rockpool-"+w.ID+" bash -s <<'END'\n"+script+"\nEND")
}

// allow lets workspaces reach a port of the host, where the test's servers are.
func (i *instance) allow(t *testing.T, port int) {
	t.Helper()
	i.sh(t, fmt.Sprintf("sudo nft add element inet rockpool_workspaces allowed4 '{ %s . %d }'", hostInGuest, port))
}

// gitServer serves a repository with a README.md on the host's loopback
// interface, under its name with and without .git; with a token only to those
// who have it.
func gitServer(t *testing.T, name, readme, token string) (port int) {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal("git is not installed: apt install git")
	}

	root := t.TempDir()
	const script = `git init --quiet --initial-branch=main work && cd work && printf '%s\n' "$1" >README.md && git add . &&
		git -c user.name=Test -c user.email=test@localhost commit --quiet -m "Say hello" &&
		git clone --quiet --bare . "../served/$2.git" && ln -s "${2##*/}.git" "../served/$2"`

	make := exec.Command("bash", "-euc", script, "bash", readme, name)
	make.Dir = root
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("make a repository: %v\n%s", err, out)
	}

	backend := &cgi.Handler{Path: git, Args: []string{"http-backend"}, Env: []string{
		"GIT_PROJECT_ROOT=" + filepath.Join(root, "served"), "GIT_HTTP_EXPORT_ALL=1",
	}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); token != "" && given != token {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))

	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}

// TestWorkspaces takes two workspaces through their lives in one VM.
func TestWorkspaces(t *testing.T) {
	i := primary.up(t)
	git := gitServer(t, "me/project", "a project", secretToken)
	useRepositories(t, git)

	start := time.Now()
	one := i.api(t, "POST", "/api/workspaces", map[string]string{"name": "e2e-one", "image": "", "repositoryId": "me/project", "token": secretToken}, http.StatusCreated)
	one = i.reach(t, one.ID, "running")
	t.Logf("create to running, with a clone: %.1f s: %s", time.Since(start).Seconds(), i.steps(t, one))
	if got := i.inside(t, one, "cat project/README.md; git -C project config remote.origin.url"); !strings.Contains(got, "a project") || strings.Contains(got, secretToken) {
		t.Errorf("the clone: %q", got)
	}
	t.Run("Token", func(t *testing.T) { tokenTest(t, i, one) })
	t.Run("Limits", func(t *testing.T) { limitsTest(t, i, one) })
	t.Run("Disk", func(t *testing.T) { diskTest(t, i, one) })
	t.Run("IDE", func(t *testing.T) { ideTest(t, i, one) })
	two := i.create(t, "e2e-two")
	socket := openPreview(t, i, one)
	t.Run("Previews", func(t *testing.T) { previewsTest(t, i, one, "node") })
	start = time.Now()
	two = i.reach(t, two.ID, "running")
	t.Logf("create to running: %.1f s: %s", time.Since(start).Seconds(), i.steps(t, two))
	t.Run("Isolation", func(t *testing.T) { isolationTest(t, i, one, two) })
	t.Run("IsolationOfTheHome", func(t *testing.T) { homeIsolationTest(t, i, two) })
	t.Run("SocketOutlivesOthers", func(t *testing.T) { outliveTest(t, i, socket, two) })
	t.Run("PowerCut", func(t *testing.T) { powerCutTest(t, i, one) })
	i.stop(t, one)
	start = time.Now()
	i.api(t, "POST", "/api/workspaces/"+one.ID+"/start", nil, http.StatusOK)
	one = i.reach(t, one.ID, "running")
	t.Logf("start to running: %.1f s: %s", time.Since(start).Seconds(), i.steps(t, one))
	i.stopAndDelete(t, one)
	nothingLeft(t, i)
}

// tokenTest looks for the token everywhere it could have been left.
func tokenTest(t *testing.T, i *instance, w remote) {
	// What is shown of the files, and images, are left out: what the data disk
	// holds is looked at once. Neither sudo nor the shell of the guest is told the
	// word in an argument: what it logs would hold it.
	found := i.sh(t, `cd /; sudo sync; word=`+secretToken[:10]+`; word="${word}`+secretToken[10:]+`"
		printf '%s\n' "$word" | sudo grep -rlF --exclude-dir=open --exclude-dir=images --exclude-dir=staging --exclude=pool.btrfs -f - /var/lib/rockpool /home/admin /run /var/log /etc /tmp 2>/dev/null || true
		printf '%s\n' "$word" | sudo -u rockpool podman exec -i rockpool-`+w.ID+` sudo grep -rlF -f - /home /tmp /var/log 2>/dev/null || true
		sudo -u rockpool podman inspect rockpool-`+w.ID+` | grep -cF -e "$word" || true
		sudo journalctl --no-pager -q | grep -F -e "$word" || true`)
	if found != "0" {
		t.Errorf("the token is in: %s", found)
	}

	// Deleted files and the database's pages are on the data disk still.
	disk := filepath.Join(i.dir(), "data.raw")
	if !holds(t, disk, w.ID) {
		t.Errorf("the search proves nothing: it does not find the workspace's id on the data disk")
	}
	if holds(t, disk, secretToken) {
		t.Errorf("the token is on the data disk")
	}
}

// holds tells whether a word is in a sparse file, whose holes are not read.
func holds(t *testing.T, file, word string) bool {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}

	defer f.Close()
	buf := make([]byte, 1<<20)
	for at := int64(0); ; {
		at, err = f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // a hole up to the end
			return false
		}
		if err != nil {
			t.Fatal(err)
		}

		n, err := f.ReadAt(buf, at)
		if bytes.Contains(buf[:n], []byte(word)) {
			return true
		}
		if err == io.EOF {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		at += int64(n - len(word) + 1) // the word may lie across the end
	}
}

// limitsTest reads what the kernel holds the container to.
func limitsTest(t *testing.T, i *instance, w remote) {
	memory := i.limits(t, w).Memory.Limit
	if slice := i.sh(t, "cat /sys/fs/cgroup/user.slice/user-990.slice/user@990.service/workspaces.slice/memory.max"); memory <= 0 || slice != fmt.Sprint(i.limits(t, w).Memory.Max) {
		t.Errorf("it may use %d bytes, all together %s", memory, slice)
	}
	out := i.inside(t, w, `cd /sys/fs/cgroup; cat memory.max cpu.max pids.max; id -un; sudo -n id -u
		grep -E '^(Seccomp|CapBnd):' /proc/self/status; cat /proc/self/uid_map; test -w / || echo 'root is not mine'`)
	for _, want := range []string{fmt.Sprintf("%d\n", memory), "200000 100000\n", "4096\n", "admin\n0\n", "Seccomp:\t2"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	daily := i.inside(t, w, `cat /proc/sys/net/ipv4/ping_group_range; df -B1 --output=size /dev/shm | tail -n 1
		ping -c 1 -W 5 127.0.0.1 >/dev/null && echo 'ping works'; git config filter.lfs.process; gpg --version | head -n 1`)
	for _, want := range []string{"0\t65535\n", fmt.Sprintf("%d\n", memory/4), "ping works\n", "git-lfs filter-process\n", "gpg (GnuPG)"} {
		if !strings.Contains(daily, want) {
			t.Errorf("no %q in:\n%s", want, daily)
		}
	}
	// From outside, root in the container is nobody, in a range of its own.
	owner := i.sh(t, `pid=$(cd /; sudo -u rockpool podman inspect --format '{{.State.Pid}}' rockpool-`+w.ID+`); sudo cat /proc/$pid/uid_map`)
	if f := strings.Fields(owner); len(f) != 3 || f[2] != "65536" || len(f[1]) < 6 || f[1] == "100000" {
		t.Errorf("ids of the container: %q", owner)
	}
	// The image was neither copied nor chowned for it.
	if size := i.sh(t, "sudo du -sm /home/rockpool/.local/share/containers/storage/overlay-containers | cut -f1"); len(size) > 2 {
		t.Errorf("a container takes %s MB of the disk", size)
	}
}

func ideTest(t *testing.T, i *instance, w remote) {
	password := i.login(t)
	res, body := i.get(t, 1, "/workspace/"+w.Name+"/healthz", password)
	if res.StatusCode != http.StatusOK || !strings.Contains(body, "status") {
		t.Errorf("health of the IDE: %d %q", res.StatusCode, body)
	}
	if res, _ := i.get(t, 1, "/workspace/"+w.Name, password); res.StatusCode != http.StatusFound || res.Header.Get("Location") != "/workspace/"+w.Name+"/" {
		t.Errorf("without a slash: %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	if res, body := i.get(t, 1, "/workspace/"+w.Name+"/?folder=/home/admin/project", password); res.StatusCode != http.StatusOK || !strings.Contains(body, "<html") {
		t.Errorf("page of the IDE: %d %.200q", res.StatusCode, body)
	}
}

// openPreview starts an application on the container's loopback interface,
// looks at it through the server for previews and leaves a WebSocket open.
func openPreview(t *testing.T, i *instance, w remote) *websocket.Conn {
	t.Helper()
	i.inside(t, w, "cat >/tmp/preview.js <<'JS'\n"+previewApp+"\nJS\nsetsid node /tmp/preview.js </dev/null >/tmp/preview.log 2>&1 &")
	password := i.login(t)
	path := "/workspace/" + w.Name + "/port/3000/"
	if res, _ := i.get(t, 2, path, password); res.StatusCode != http.StatusNotFound {
		t.Errorf("a port that is not registered: %d", res.StatusCode)
	}

	i.api(t, "POST", "/api/workspaces/"+w.ID+"/ports", map[string]any{"port": 3000}, http.StatusCreated)
	var body string
	eventually(t, readyLimit, "the preview", func() bool {
		res, b := i.get(t, 2, path+"a%20b?c=d", password)
		body = b
		return res.StatusCode == http.StatusOK
	})

	if !strings.HasPrefix(body, "preview /a%20b?c=d") || strings.Contains(strings.ToLower(body), `"authorization"`) || strings.Contains(strings.ToLower(body), "x-rockpool") {
		t.Errorf("the application was asked for %q", body)
	}
	if res, _ := i.get(t, 1, "/workspace/"+w.Name+"/proxy/3000/", password); res.StatusCode != http.StatusFound || res.Header.Get("Location") != fmt.Sprintf("http://127.0.0.1:%d%s", i.web+2, path) {
		t.Errorf("the application at the IDEs' origin: %d to %q", res.StatusCode, res.Header.Get("Location"))
	}

	c := i.dialPreview(t, path)
	expectEcho(t, c, "hello")
	return c
}

// dialPreview opens a WebSocket at the server for previews.
func (i *instance) dialPreview(t *testing.T, path string) *websocket.Conn {
	t.Helper()
	h := http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+i.login(t)))}}
	c, _, err := websocket.Dial(t.Context(), fmt.Sprintf("ws://127.0.0.1:%d%s", i.web+2, path), &websocket.DialOptions{HTTPHeader: h})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

// expectEcho sends a word over a WebSocket and expects it back.
func expectEcho(t *testing.T, c *websocket.Conn, word string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte(word)); err != nil {
		t.Fatalf("the WebSocket is closed: %v", err)
	}
	if _, b, err := c.Read(ctx); err != nil || string(b) != word {
		t.Fatalf("the WebSocket answers %q, %v", b, err)
	}
}

// outliveTest changes everything around an open connection.
func outliveTest(t *testing.T, i *instance, c *websocket.Conn, other remote) {
	i.crash(t, other)
	expectEcho(t, c, "after a crash")
	i.stop(t, other)
	expectEcho(t, c, "after a stop")
	i.remove(t, other)
	expectEcho(t, c, "after a delete")
	i.sh(t, "sudo systemctl restart rockpool-agent")
	expectEcho(t, c, "after a restart")
	eventually(t, readyLimit, "health after the restart", func() bool { return healthy(i.web) })
}

// isolationTest tries, from inside one workspace, everything it must not
// reach. The same addresses answer the VM itself.
func isolationTest(t *testing.T, i *instance, one, two remote) {
	_, other, err := net.SplitHostPort(two.VMIP)
	if err != nil {
		t.Fatalf("address of the other workspace: %v", err)
	}

	inVM := []string{
		guestSeen + ":22", guestSeen + ":8081", guestSeen + ":8082",
		hostInGuest + ":" + strconv.Itoa(i.ssh), hostInGuest + ":" + strconv.Itoa(i.web),
		"127.0.0.1:" + other, "127.0.0.1:22", "127.0.0.1:8081",
	}

	const probe = `for t in %s; do
		if timeout 5 bash -c "exec 3<>/dev/tcp/${t%%:*}/${t##*:}" 2>/dev/null; then echo "open $t"; else echo "shut $t"; fi
	done`
	if got := i.sh(t, fmt.Sprintf(probe, strings.Join(inVM, " "))); strings.Contains(got, "shut") {
		t.Fatalf("the test proves nothing, the VM does not reach:\n%s", got)
	}

	gateways := []string{"169.254.1.1:22", "169.254.1.1:8080", "169.254.1.2:22", "169.254.1.2:8080", "169.254.41.1:22", "169.254.41.2:8080", guestSeen + ":" + other, hostInGuest + ":22", "fec0::2:8080", "host.containers.internal:8080"}
	if got := i.inside(t, one, fmt.Sprintf(probe, strings.Join(append(inVM, gateways...), " "))); strings.Contains(got, "open") || strings.Count(got, "shut") != len(inVM)+len(gateways) {
		t.Errorf("from inside a workspace:\n%s", got)
	}
	if got := i.inside(t, one, "ls -d /run/rockpool* /run/user /run/podman 2>/dev/null || true; env | grep -i -e rockpool -e token || true; mount | grep -c rockpool-agent || true"); got != "0" {
		t.Errorf("things of the VM in a workspace: %q", got)
	}
	if got := i.inside(t, one, "grep -E ' (shared|master):[0-9]' /proc/self/mountinfo || true"); got != "" {
		t.Errorf("mounts that a workspace has in common with the VM: %s", got)
	}
}

// powerCutTest pulls the plug: what was written is there, and what ran runs.
func powerCutTest(t *testing.T, i *instance, w remote) {
	i.inside(t, w, "echo precious >note.txt; sync")
	i.sh(t, "sudo sync")
	cutPower(t, i)
	i.mage(t, "up")
	start := time.Now()
	again := i.reach(t, w.ID, "running")
	eventually(t, readyLimit, "the IDE after the power cut", func() bool {
		res, _ := i.get(t, 1, "/workspace/"+w.Name+"/healthz", i.login(t))
		return res.StatusCode == http.StatusOK
	})
	t.Logf("ready to running again: %.1f s", time.Since(start).Seconds())
	if got := i.inside(t, again, "cat note.txt project/README.md"); got != "precious\na project" {
		t.Errorf("after the power cut: %q", got)
	}
	i.api(t, "GET", "/api/workspaces/"+w.ID+"/ports", nil, http.StatusOK)
}

// TestWorkspaces_PowerCutInJobs creates five workspaces at once, then pulls the
// plug while one is created, one started, one stopped and one deleted. After
// the boot each is where it was to go, and the others run as before.
func TestWorkspaces_PowerCutInJobs(t *testing.T) {
	takesLong(t)
	i := primary.up(t)
	start := time.Now()
	var all []remote
	for n := range 5 {
		all = append(all, i.create(t, fmt.Sprintf("five-%d", n)))
	}
	for _, w := range all {
		i.reachWithin(t, longLimit, w.ID, "running")
	}
	t.Logf("five at once: %.1f s", time.Since(start).Seconds())
	stays, starts, stops, goes := all[0], all[1], all[2], all[3]
	for _, w := range []remote{starts, goes} {
		i.api(t, "POST", "/api/workspaces/"+w.ID+"/stop", nil, http.StatusOK)
	}
	i.reach(t, starts.ID, "stopped")
	i.reach(t, goes.ID, "stopped")

	i.api(t, "POST", "/api/workspaces/"+starts.ID+"/start", nil, http.StatusOK)
	i.api(t, "POST", "/api/workspaces/"+stops.ID+"/stop", nil, http.StatusOK)
	i.remove(t, goes)
	comes := i.create(t, "five-more")
	cutPower(t, i)
	i.mage(t, "up")
	start = time.Now()
	for _, w := range []remote{stays, starts, comes, all[4]} {
		i.reachWithin(t, longLimit, w.ID, "running")
	}
	i.reach(t, stops.ID, "stopped")
	i.gone(t, goes)
	t.Logf("ready to all as they should be: %.1f s", time.Since(start).Seconds())
	for _, w := range []remote{stays, starts, comes, all[4]} {
		i.api(t, "POST", "/api/workspaces/"+w.ID+"/stop", nil, http.StatusOK)
	}
	for _, w := range []remote{stays, starts, comes, all[4], stops} {
		i.reach(t, w.ID, "stopped")
		i.remove(t, w)
	}
	nothingLeft(t, i)
}

// TestWorkspaces_OwnImage has the VM pull an image of the user's own from a
// registry, and runs a workspace from it.
func TestWorkspaces_OwnImage(t *testing.T) {
	takesLong(t)
	i := primary.up(t)
	server := httptest.NewServer(newRegistry())
	defer server.Close()
	builds.mage(t, "workspace:image", "--push", server.Listener.Addr().String()+"/me/own:1", "--plain-http")
	port := server.Listener.Addr().(*net.TCPAddr).Port
	i.allow(t, port)
	host := net.JoinHostPort(hostInGuest, strconv.Itoa(port))
	i.sh(t, asRockpool+fmt.Sprintf(`printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' | sudo tee /etc/containers/registries.conf.d/e2e.conf
		rockpool systemctl --user stop podman.service # it has read the old ones`, host))

	start := time.Now()
	w := i.api(t, "POST", "/api/workspaces", map[string]string{"name": "own-image", "image": host + "/me/own:1"}, http.StatusCreated)
	w = i.reachWithin(t, longLimit, w.ID, "running")
	t.Logf("create to running, with a pull of the image: %.0f s", time.Since(start).Seconds())
	if got := i.sh(t, `cd /; sudo -u rockpool podman inspect --format '{{index .Config.Labels "dev.rockpool.image"}}' rockpool-`+w.ID+"; sudo -u rockpool podman images -q; ("+ownImages+") | wc -l"); got != host+"/me/own:1\n1" {
		t.Errorf("its image, Podman's images and those of the storage: %q", got)
	}
	limitsTest(t, i, w)
	ideTest(t, i, w)
	i.stopAndDelete(t, w)
	nothingLeft(t, i)
	eventually(t, readyLimit, "its image is gone", func() bool { return i.sh(t, ownImages) == "" })
}

// ownImages lists the images in the storage but the one that the VM carries.
const ownImages = "sudo ls " + guest.StorageDir + "/pool/images | grep -v $(tr : - <" + guest.WorkspaceDir + "/digest) || true"

// nothingLeft expects that the containers and files of deleted workspaces go.
func nothingLeft(t *testing.T, i *instance) {
	t.Helper()
	eventually(t, readyLimit, "nothing left", func() bool {
		return i.sh(t, "cd /; sudo -u rockpool podman ps -aq; sudo -u rockpool podman volume ls -q; "+filesLeft) == ""
	})
}

// cutPower kills the machine and waits until its supervisor knows.
func cutPower(t *testing.T, i *instance) {
	t.Helper()
	machine := i.status(t).Processes
	if len(machine) == 0 {
		t.Fatal("the state names no process of the machine")
	}
	if err := machine[0].Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, readyLimit, "the instance's end", func() bool { return !i.status(t).On() })
}

// runInGuest compiles the tests of a package, in one static file so that they
// need nothing of the guest, and runs some of them there.
func runInGuest(t *testing.T, i *instance, pkg, as, run string) string {
	t.Helper()
	name := filepath.Base(pkg) + ".test"
	cmd := exec.Command("go", "test", "-c", "-vet=off", "-trimpath", "-tags", toolchain.PodmanTags,
		"-ldflags", toolchain.StaticLink, "-o", filepath.Join(i.project, name), pkg)
	cmd.Dir = checkout
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compile the tests of %s: %v\n%s", pkg, err, out)
	}
	out := i.sh(t, fmt.Sprintf(`cp /mnt/rockpool/%[1]s /tmp/; chmod 755 /tmp/%[1]s; rm /mnt/rockpool/%[1]s
		%[2]s /tmp/%[1]s -test.v -test.run '%[3]s'; rm /tmp/%[1]s`, name, as, run))
	t.Log(indent(out))
	if strings.Contains(out, "--- SKIP") || !strings.Contains(out, "--- PASS") {
		t.Errorf("tests of %s did not run in the guest", pkg)
	}
	return out
}

// contractTest runs the runtime's contract suite inside the guest, in
// system.slice as the agent runs there.
func contractTest(t *testing.T, i *instance) {
	t.Helper()
	git := gitServer(t, "me/project", "a project", "")
	i.allow(t, git)
	as := fmt.Sprintf("sudo systemd-run --quiet --uid=rockpool --pipe --wait -E ROCKPOOL_TEST_REPOSITORY=http://%s:%d/me/project", hostInGuest, git)
	if out := runInGuest(t, i, "./agent/podman", as, "Contract"); !strings.Contains(out, "--- PASS: TestEngine_Contract/Remove") {
		t.Error("the contract suite did not run to its end")
	}
}

// TestCaddy runs the tests of the Caddyfile with the guest's own Caddy.
func TestCaddy(t *testing.T) {
	takesLong(t)
	runInGuest(t, primary.up(t), "./templates", "", "TestCaddy")
}

// TestRuntime_Contract holds Podman 5 with pasta to the runtime's contract.
func TestRuntime_Contract(t *testing.T) {
	takesLong(t)
	contractTest(t, primary.up(t))
}
