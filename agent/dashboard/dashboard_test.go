package dashboard_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/dashboard"
	"github.com/rockpool/rootvm/guest"
)

var update = flag.Bool("update", false, "rewrite golden files")

func handler(p *plane) http.Handler { return closingHandler(p, nil) }

// closingHandler is of an agent that ends when closing is closed.
func closingHandler(p *plane, closing <-chan struct{}) http.Handler {
	return (&dashboard.Dashboard{
		Closing:      closing,
		ControlPlane: p,
		Ports:        guest.Ports{Dashboard: 9080, IDE: 9081, Preview: 9082},
		Version:      "1.2",
		Now:          func() time.Time { return start.Add(90 * time.Second) },
		Log:          slog.New(slog.DiscardHandler),
	}).Handler()
}

// answer is a response that was read.
type answer struct {
	*http.Response
	body string
}

func do(t *testing.T, p *plane, r *http.Request) answer {
	t.Helper()
	w := httptest.NewRecorder()
	handler(p).ServeHTTP(w, r)
	return answer{w.Result(), w.Body.String()}
}

func get(t *testing.T, p *plane, target string) answer {
	t.Helper()
	return do(t, p, httptest.NewRequest(http.MethodGet, "http://box.local:9080"+target, nil))
}

// post sends a form of names and values.
func post(t *testing.T, p *plane, target string, form ...string) answer {
	t.Helper()
	values := url.Values{}
	for i := 0; i < len(form); i += 2 {
		values.Add(form[i], form[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, "http://box.local:9080"+target, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return do(t, p, r)
}

func (a answer) want(t *testing.T, status int, parts ...string) {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("status %d, want %d:\n%s", a.StatusCode, status, a.body)
	}
	for _, s := range parts {
		if !strings.Contains(a.body, s) {
			t.Errorf("no %q in:\n%s", s, a.body)
		}
	}
}

func (a answer) wantRedirect(t *testing.T, to string) {
	t.Helper()
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != to {
		t.Errorf("%d to %q, want 303 to %q:\n%s", a.StatusCode, a.Header.Get("Location"), to, a.body)
	}
}

// busy is a control plane in which there is something of everything.
func busy() *plane {
	p := newPlane("one", "two", "three")
	p.workspaces[2].Status = agent.StatusStopped
	p.workspaces[1].Status, p.workspaces[1].ErrorMessage = agent.StatusError, "The image is not there. Build it, then retry."
	w := &p.workspaces[0]
	w.Status, w.RepositoryID, w.Description = agent.StatusRunning, "octocat/Hello-World", "For tests"
	p.steps[w.ID] = []agent.Step{
		{Name: agent.StepContainer, State: agent.StepDone, StartedAt: start, EndedAt: start.Add(1500 * time.Millisecond)},
		{Name: agent.StepHealth, State: agent.StepDone, StartedAt: start.Add(1500 * time.Millisecond), EndedAt: start.Add(64 * time.Second)},
	}
	p.ports[w.ID] = []agent.Port{{WorkspaceID: w.ID, Port: 3000, Label: "web"}}
	p.listening[w.ID] = []agent.Listener{
		{Port: 80, Program: "nginx", Addresses: []string{"0.0.0.0", "::"}},
		{Port: 3000, Program: "node", Addresses: []string{"::1"}},
		{Port: 5432, Addresses: []string{"127.0.0.1"}},
	}
	p.usage = &agent.Usage{CPU: .5, Memory: 300 << 20, MemoryLimit: 4 << 30, Pids: 7}
	p.saved[agent.PreferenceGit] = agent.Preference{Name: agent.PreferenceGit, UpdatedAt: start.Add(time.Minute)}
	return p
}

var hashes = regexp.MustCompile(`data-hash="[0-9a-f]*"|\.[0-9a-f]{12}\.`)

// TestPages_golden compares whole pages with golden files.
func TestPages_golden(t *testing.T) {
	for name, tt := range map[string]struct {
		p      *plane
		target string
	}{
		"empty":     {newPlane(), "/app/workspaces"},
		"list":      {busy(), "/app/workspaces"},
		"new":       {newPlane(), "/app/workspaces/new"},
		"repo":      {newPlane(), "/app/workspaces/new/repo"},
		"configure": {newPlane(), "/app/workspaces/new/configure?repo=octocat%2FHello-World"},
		"running":   {busy(), "/app/workspaces/" + id(3)},
		"error":     {busy(), "/app/workspaces/" + id(2)},
		"stopped":   {busy(), "/app/workspaces/" + id(1)},
		"settings":  {busy(), "/app/settings"},

		"difference": {differing(), "/app/workspaces/" + id(3) + "/preferences/GitConfig"},
		"noted":      {differing(), "/app/settings"},
		"stored":     {differing(), "/app/settings/GitConfig"},
		"disk":       {shared(), "/app/disk"},
		"image":      {updated(), "/app/workspaces/" + id(1) + "/image"},
	} {
		t.Run(name, func(t *testing.T) {
			a := get(t, tt.p, tt.target)
			a.want(t, http.StatusOK)
			got := hashes.ReplaceAllString(a.body, ".")
			golden := filepath.Join("testdata", name+".html")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(golden); err != nil || got != string(want) {
				t.Errorf("the page differs from its golden file (%v); run with -update and look at the difference:\n%s", err, got)
			}
		})
	}
}

// TestPages_contract holds what every page must be: safe, whole, and with the
// words of states only where the states are.
func TestPages_contract(t *testing.T) {
	p := differing()
	for _, target := range []string{"/app/settings/GitConfig", "/app/workspaces/" + id(3) + "/preferences/GitConfig", "/app/workspaces", "/app/workspaces/new", "/app/workspaces/new/repo", "/app/workspaces/new/configure", "/app/workspaces/" + id(3), "/app/workspaces/" + id(2), "/app/workspaces/" + id(1), "/app/settings"} {
		t.Run(target, func(t *testing.T) {
			a := get(t, p, target)
			a.want(t, http.StatusOK, `<html lang="en">`, `aria-current="page"`, `>Rockpool</span>`)
			h := a.Header
			if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
				t.Errorf("policy %q", csp)
			}
			if h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "text/html; charset=utf-8" {
				t.Errorf("header %v", h)
			}
			for _, bad := range []string{" style=", "<style", "onclick", "http://www", "https://"} {
				if strings.Contains(strings.ReplaceAll(a.body, "<code>https://</code>", ""), bad) {
					t.Errorf("the page has %q", bad)
				}
			}
			if n := strings.Count(a.body, "<h1"); n != 1 {
				t.Errorf("%d headings of the first level", n)
			}
			words := regexp.MustCompile(`(?i)running|stopped`).FindAllString(visible(a.body), -1)
			states := strings.Count(a.body, `class="badge running"`) + strings.Count(a.body, `class="badge stopped"`)
			if len(words) != states {
				t.Errorf("the words of states %q, but %d states", words, states)
			}
		})
	}
}

var tags = regexp.MustCompile(`(?s)<[^>]*>`)

func visible(html string) string { return tags.ReplaceAllString(html, " ") }

func TestHandler_faults(t *testing.T) {
	p := busy()
	for target, want := range map[string]int{
		"/app/none":                                           404,
		"/app/workspaces/" + id(9):                            404,
		"/app/workspaces/" + id(9) + "/log":                   404,
		"/app/workspaces?cursor=x":                            400,
		"/app/workspaces/new/configure?repo=":                 400,
		"/app/workspaces/new/configure?repo=%2Fetc":           400,
		"/app/workspaces/new/configure?repo=-x%2F..":          400,
		"/app/assets/none.css":                                404,
		"/app/settings/Bashrc":                                404,
		"/app/settings/CodeServerSettings":                    404,
		"/app/workspaces/" + id(3) + "/preferences/Bashrc":    404,
		"/app/workspaces/" + id(9) + "/preferences/GitConfig": 404,
	} {
		a := get(t, p, target)
		a.want(t, want, "<h1>")
	}
	p.fault = errors.New("disk I/O error: secret")
	for _, target := range []string{"/app/workspaces", "/app/workspaces/" + id(1), "/app/settings", "/app/workspaces/live"} {
		a := get(t, p, target)
		a.want(t, 500, "Something went wrong", "Try again")
		if strings.Contains(a.body, "secret") {
			t.Error("the page tells the inside of a fault")
		}
	}
	if r := get(t, p, "/app"); r.StatusCode != http.StatusFound || r.Header.Get("Location") != "/app/workspaces" {
		t.Errorf("/app: %d %q", r.StatusCode, r.Header.Get("Location"))
	}
}

func TestList_pages(t *testing.T) {
	p := newPlane()
	for i := range 60 {
		_, _ = p.CreateWorkspace(t.Context(), agent.NewWorkspace{Name: fmt.Sprintf("name-%02d", i)})
	}
	older := regexp.MustCompile(`id="older" href="([^"]*)"`)
	var seen []string
	target := "/app/workspaces"
	for range 5 {
		a := get(t, p, target)
		a.want(t, 200)
		for _, m := range regexp.MustCompile(`>(name-\d\d)<`).FindAllStringSubmatch(a.body, -1) {
			seen = append(seen, m[1])
		}
		m := older.FindStringSubmatch(a.body)
		if m == nil {
			break
		}
		target = m[1]
	}
	if len(seen) != 60 || seen[0] != "name-59" || seen[59] != "name-00" {
		t.Errorf("seen %q", seen)
	}
}

// TestCreate: what was typed stays when something is wrong with it.
func TestCreate(t *testing.T) {
	p := newPlane("taken")
	for name, tt := range map[string]struct {
		form   []string
		status int
		parts  []string
	}{
		"name":       {[]string{"name", "No Way", "description", "kept <b>"}, 400, []string{`value="No Way"`, "kept &lt;b&gt;", `id="name-fault"`, "Must be 3 to 63 characters"}},
		"taken":      {[]string{"name", "taken", "description", "kept"}, 409, []string{`value="taken"`, "already exists", "kept"}},
		"repository": {[]string{"name", "fine", "repositoryId", "http://x", "token", "s3cret"}, 400, []string{`value="http://x"`, `id="repository-fault"`, `value="s3cret"`}},
		"token":      {[]string{"name", "fine", "repositoryId", "a/b", "token", "a b"}, 400, []string{`id="token-fault"`}},
		"all":        {[]string{"name", "", "description", "\x00"}, 400, []string{`id="name-fault"`, `id="description-fault"`}},
	} {
		t.Run(name, func(t *testing.T) {
			post(t, p, "/app/workspaces/new/configure", tt.form...).want(t, tt.status, tt.parts...)
		})
	}
	a := post(t, p, "/app/workspaces/new/configure", "name", " fine ", "description", "d", "repositoryId", "a/b", "token", "t", "autoSyncPrefs", "1")
	a.wantRedirect(t, "/app/workspaces/"+id(2))
	want := agent.NewWorkspace{Name: "fine", Description: "d", RepositoryID: "a/b", Token: "t", AutoSyncPrefs: true}
	if got := p.created[1]; got != want {
		t.Errorf("asked for %+v", got)
	}
}

func TestConfigure_name(t *testing.T) {
	for repo, want := range map[string]string{
		"octocat/Hello-World":                              "hello-world",
		"https://git.example/team/My_App.git":              "my-app",
		"https://git.example/team/x/":                      "",
		"https://git.example/" + long(80):                  long(63),
		"https://git.example/a/" + url.PathEscape("größe"): "gr-e",
	} {
		a := get(t, newPlane(), "/app/workspaces/new/configure?repo="+url.QueryEscape(repo))
		a.want(t, 200, fmt.Sprintf(`name="name" type="text" value="%s"`, want))
	}
}

// TestDetail_Shortage: what the kernel ended is told with its time, unless an
// error says more.
func TestDetail_Shortage(t *testing.T) {
	p := busy()
	at := "/app/workspaces/" + id(3)
	p.workspaces[0].Shortage = agent.Shortage{Message: "It used <much>.", At: start.Add(-3 * time.Minute)}
	get(t, p, at).want(t, 200, `id="shortage">It used &lt;much&gt;. <time datetime="2026-03-01T11:57:00Z" title="1 Mar 2026, 11:57 UTC" data-ago>`, "minutes ago</time>", "More memory can be set under Limits.")
	p.workspaces[0].ErrorMessage = "It is started again."
	if body := get(t, p, at).body; strings.Contains(body, "much") || !strings.Contains(body, "It is started again.") {
		t.Error("both are told")
	}
}

// TestDetail_Limits: what a workspace may use is shown and set by a form, whose
// faults say what is allowed and leave what was typed.
func TestDetail_Limits(t *testing.T) {
	p := busy()
	at := "/app/workspaces/" + id(3)
	p.usage = &agent.Usage{MemoryLimit: agent.DefaultMemory}
	get(t, p, at).want(t, 200, "<dd>4.0 GiB <span class=\"sub\">by default</span></dd>", "<dd>16.0 GiB <span", `method="post" action="`+at+`/limits"`, `name="memory" type="number" inputmode="decimal" step="any" min="0.25" max="6" value="" placeholder="4"`)
	if body := get(t, p, at).body; strings.Contains(body, "Until the next start") {
		t.Error("limits that hold are said to come")
	}

	post(t, p, at+"/limits", "memory", " 1.5 ", "disk", "40").wantRedirect(t, at)
	if got, want := p.workspaces[0].Limits, (agent.Limits{Memory: 3 << 29, Disk: 40 << 30}); got != want {
		t.Errorf("set %+v, want %+v", got, want)
	}
	get(t, p, at).want(t, 200, "<dd>1.5 GiB</dd>", `value="1.5"`, `value="40"`, "Until the next start it may use 4.0 GiB of memory.")

	post(t, p, at+"/limits", "memory", "7", "disk", "").want(t, 400, `value="7"`, `id="memory-fault"`, "from 256 MiB to 6.0 GiB, which is what the VM has for workspaces.")
	post(t, p, at+"/limits", "memory", "<i>", "disk", "0.5").want(t, 400, `value="&lt;i&gt;"`, `id="memory-fault"`, `id="disk-fault"`, "from 1.0 GiB to 64.0 GiB")
	post(t, p, "/app/workspaces/"+id(99)+"/limits", "memory", "1").want(t, 404)

	p.workspaces[0].Limits.Disk = 30e9 // no round number of GiB: the form leaves it
	shown := regexp.MustCompile(`name="disk" [^>]* value="([^"]*)"`).FindStringSubmatch(get(t, p, at).body)
	post(t, p, at+"/limits", "memory", "", "disk", shown[1]).wantRedirect(t, at)
	if got, want := p.workspaces[0].Limits, (agent.Limits{Disk: 30e9}); got != want {
		t.Errorf("set %+v, want %+v", got, want)
	}
}

// roomy is a disk with room.
func roomy() agent.DiskState {
	return agent.DiskState{Size: 64 << 30, Free: 40 << 30, Rest: 1 << 30, At: start.Add(time.Minute)}
}

// updated is a control plane whose VM carries a newer image than a workspace that
// is stopped was made from.
func updated() *plane {
	p := busy()
	p.newest = "sha256:" + strings.Repeat("b", 64)
	for i := range p.workspaces {
		p.workspaces[i].ImageDigest = "sha256:" + strings.Repeat("a", 64)
	}
	p.change.Packages = []string{"postgresql", "<i>"}
	return p
}

// TestDetail_Image: the page says which image it is, and that a newer one is
// there; what moving on changes is shown before it is done.
func TestDetail_Image(t *testing.T) {
	at := "/app/workspaces/" + id(1)
	if body := get(t, busy(), at).body; strings.Contains(body, `id="newer"`) {
		t.Error("a newer image than none")
	}
	p := updated()
	get(t, p, at).want(t, 200, "<code>rockpool-workspace</code>", ">aaaaaaaaaaaa</code>", `A newer one is there.`, `id="newer" href="`+at+`/image"`)
	get(t, p, at+"/image").want(t, 200, "postgresql\n&lt;i&gt;\n", `name="digest" value="`+p.newest+`"`, "The home directory stays.", "Move on and start")
	get(t, p, "/app/workspaces/"+id(3)+"/image").want(t, 200, `id="move-on-later"`) // it runs
	get(t, p, "/app/workspaces/"+id(99)+"/image").want(t, 404)

	post(t, p, at+"/image", "digest", "sha256:before").want(t, 409, `role="alert">There is another image since it was shown`, p.newest)
	post(t, p, at+"/image", "digest", p.newest).wantRedirect(t, at)
	if w := p.workspaces[2]; w.Status != agent.StatusCreating {
		t.Errorf("it is %s", w.Status)
	}

	p = updated()
	p.change = agent.ImageChange{Unknown: true}
	get(t, p, at+"/image").want(t, 200, "could not be read", "Move on and start")
	p.change = agent.ImageChange{}
	get(t, p, at+"/image").want(t, 200, "It has no packages that the newer image has not.")
	p.newest = p.workspaces[2].ImageDigest
	get(t, p, at+"/image").want(t, 200, "There is no newer one.")
	p.newest = ""
	get(t, p, at+"/image").want(t, 200, "Whether there is a newer one is not known.")
}

// shared is a disk on which there is something of everything.
func shared() *plane {
	p := busy()
	p.disk = roomy()
	p.disk.Orphans = []agent.DiskShare{{ID: id(77), Used: 2 << 30}}
	p.disk.Images = []agent.ImageUsage{{Digest: "sha256:abc", Size: 3 << 29}}
	p.used = map[string]int64{id(3): 13 << 30, id(2): 17 << 30}
	return p
}

// TestDetail_Disk: what the files take is shown with a bar; from 80 % on there is
// a warning, and another when nothing can be written any more.
func TestDetail_Disk(t *testing.T) {
	p := busy()
	at := "/app/workspaces/" + id(3)
	get(t, p, at).want(t, 200, "<dd>16.0 GiB <span class=\"sub\">by default</span></dd></div>") // not known: no bar

	p.used = map[string]int64{id(3): 4 << 30}
	a := get(t, p, at)
	a.want(t, 200, "<dd>4.0 GiB of 16.0 GiB <span", `<meter min="0" max="17179869184" low="13743895344" high="17008070409" optimum="0" value="4294967296" aria-label="Disk">4.0 GiB of 16.0 GiB</meter>`, "<code>df</code> tells")
	if strings.Contains(a.body, `id="disk-warning"`) {
		t.Error("a warning with room left")
	}
	for used, want := range map[int64][2]string{
		13 << 30:           {"alert mild", "Its files take 81 % of the 16.0 GiB that they may"},
		16 << 30:           {"alert", "Its files take all of the 16.0 GiB that they may"},
		(16 << 30) + 1<<29: {"alert", "Its files take 16.5 GiB, more than the 16.0 GiB that they may: nothing can be written"},
	} {
		p.used[id(3)] = used
		get(t, p, at).want(t, 200, `<p class="`+want[0]+`" id="disk-warning">`+want[1], `<a href="#limits-title">Limits</a>`)
	}

	// Lowered below what is used: taken, and told.
	p.used[id(3)] = 4 << 30
	post(t, p, at+"/limits", "memory", "", "disk", "2").wantRedirect(t, at)
	get(t, p, at).want(t, 200, "Its files take 4.0 GiB, more than the 2.0 GiB that they may")
}

// TestList_Disk: the list warns of workspaces that are almost full, and of a disk
// that is; a disk that does not answer keeps nobody from it.
func TestList_Disk(t *testing.T) {
	p := busy()
	if body := get(t, p, "/app/workspaces").body; strings.Contains(body, "warned") || !strings.Contains(body, id(3)) {
		t.Error("a warning of a disk that is not known")
	}
	p.disk = roomy()
	p.used = map[string]int64{id(3): 13 << 30, id(2): 16 << 30, id(1): 1 << 30}
	a := get(t, p, "/app/workspaces")
	a.want(t, 200, `<span class="warned">81 % of its disk used</span>`, `<span class="warned">Its disk is full</span>`)
	if n := strings.Count(a.body, "warned"); n != 2 || strings.Contains(a.body, `id="disk-used"`) {
		t.Errorf("%d warnings: %s", n, a.body)
	}
	p.disk.Free = 12 << 30
	get(t, p, "/app/workspaces").want(t, 200, `id="disk-used">81 % of the disk is used. <a href="/app/disk">`)
}

// TestDisk: the page says who takes what, with names escaped and a way to each
// limit, and what is nobody's.
func TestDisk(t *testing.T) {
	p := busy()
	get(t, p, "/app/disk").want(t, 503, "The disk for workspaces does not answer yet.")
	p = shared()
	a := get(t, p, "/app/disk")
	a.want(t, 200, `<a href="/app/disk" aria-current="page">Disk</a>`, `data-live="/app/disk/live"`, "24.0 GiB of 64.0 GiB",
		`id="disk-workspaces">32.0 GiB <span`, `id="disk-images">1.5 GiB`, `id="disk-rest">1.0 GiB`, `id="disk-free">40.0 GiB`,
		`href="/app/workspaces/`+id(3)+`#limits-title"`, `<span class="warned">81 %</span>`, `<span class="warned">full</span>`,
		"Files without a workspace", id(77), `title="sha256:abc">abc</code>`, "<noscript>")
	if strings.Contains(a.body, `id="disk-full"`) || strings.Contains(a.body, "does not answer") {
		t.Error("a warning with room left")
	}
	p.disk.Free, p.disk.At = 0, start.Add(-time.Hour)
	get(t, p, "/app/disk").want(t, 200, `id="disk-full">The disk is full: no workspace can write anything.`, "The disk does not answer: this was true", "1 hour ago")
}

// TestDetail_Offers: the page of every state has a button for all that the
// state allows, and for nothing else; without a script the form behind each is
// there.
func TestDetail_Offers(t *testing.T) {
	for _, s := range agent.Statuses() {
		p := busy()
		p.workspaces[2].Status = s
		body := get(t, p, "/app/workspaces/"+id(1)).body
		offers := 0
		for action, allowed := range map[string]bool{
			"start":  agent.Transition(s, agent.StatusCreating) == nil,
			"stop":   agent.Transition(s, agent.StatusStopping) == nil,
			"delete": s.Deletable() == nil,
		} {
			form := strings.Contains(body, `method="post" action="/app/workspaces/`+id(1)+"/"+action+`"`)
			button := strings.Contains(body, `<button class="button" id="`+action+`"`) || strings.Contains(body, `<button class="button primary" id="`+action+`"`)
			if form != allowed || button != allowed {
				t.Errorf("%s, %s: form %v, button %v, allowed %v", s, action, form, button, allowed)
			}
			if allowed {
				offers++
			}
		}
		if offers == 0 {
			t.Errorf("%s is a dead end", s)
		}
	}
}

// TestPorts_listening: what listens and is not registered has a button that
// registers it, while there is room; what is registered says who listens.
func TestPorts_listening(t *testing.T) {
	p := busy()
	at := "/app/workspaces/" + id(3)
	p.ports[id(3)] = nil
	p.listening[id(3)] = []agent.Listener{
		{Port: 3000, Program: "<b>node", Addresses: []string{"127.0.0.1"}},
		{Port: 3000, Program: "python3", Addresses: []string{"::1"}},
		{Port: 5432, Addresses: []string{"0.0.0.0", "::"}},
		{Port: 6000, Program: strings.Repeat("x", 64), Addresses: []string{"::"}},
	}
	get(t, p, at).want(t, 200, "Listening", "&lt;b&gt;node, python3", "127.0.0.1, ::1", "unknown program", "0.0.0.0, ::",
		`aria-label="Register port 5432"`, `name="label" value="&lt;b&gt;node"`, `name="port" value="5432"><input type="hidden" name="label" value=""`)
	post(t, p, at+"/ports", "port", "5432", "label", "").wantRedirect(t, at)
	page := get(t, p, at)
	page.want(t, 200, "unknown program listens", `aria-label="Register port 3000"`)
	if strings.Contains(page.body, "Register port 5432") {
		t.Error("a port that is registered is offered")
	}

	for _, n := range []string{"6001", "6002", "6003", "6004"} {
		post(t, p, at+"/ports", "port", n).wantRedirect(t, at)
	}
	page = get(t, p, at)
	page.want(t, 200, `disabled aria-label="Register port 3000" aria-describedby="listening-full"`, `id="listening-full">5 ports are registered`, "nothing listens")
	if strings.Contains(page.body, `id="register-`) {
		t.Error("a sixth port is offered")
	}

	p.listenErr = errors.New("the relay is away")
	page = get(t, p, at)
	page.want(t, 200, "Open preview", `<h3 id="listening-title">Listening</h3>`, "is not known at the moment")
	if strings.Contains(page.body, "listens") {
		t.Error("the page says who listens without knowing it")
	}
}

func long(n int) string { return strings.Repeat("a", n) }

// TestActions drives every form of the workspace's page.
func TestActions(t *testing.T) {
	p := busy()
	at := "/app/workspaces/" + id(3)
	post(t, p, at+"/start").want(t, 409, `role="alert"`, "Cannot transition from &#34;running&#34; to &#34;creating&#34;")
	post(t, p, at+"/delete").want(t, 409, "Stop it first.")
	post(t, p, at+"/ports", "port", "5173", "label", "vite").wantRedirect(t, at)
	post(t, p, at+"/ports", "port", "5173", "label", "<i>").want(t, 409, "already registered", `value="5173"`, `value="&lt;i&gt;"`, `id="port-fault"`)
	post(t, p, at+"/ports", "port", "80").want(t, 400, "Must be a number from 1024 to 65535.", `value="80"`)
	post(t, p, at+"/ports", "port", "many").want(t, 400, "Must be a number from 1024 to 65535.", `value="many"`)
	get(t, p, at).want(t, 200, `href="http://box.local:9082/workspace/three/port/5173/"`, `href="http://box.local:9081/workspace/three/"`)
	post(t, p, at+"/ports/5173/remove").wantRedirect(t, at)
	post(t, p, at+"/ports/5173/remove").wantRedirect(t, at)
	post(t, p, at+"/ports/x/remove").want(t, 404)
	post(t, p, at+"/stop").wantRedirect(t, at)
	get(t, p, at).want(t, 200, "Stopping", `http-equiv="refresh"`, `<a href="?still">`)
	get(t, p, "/app/workspaces").want(t, 200, "Stopping", `http-equiv="refresh"`, `<a href="?still">`)
	if still := get(t, p, "/app/workspaces?still"); strings.Contains(still.body, "http-equiv") {
		t.Error("the list does not hold still")
	}
	if still := get(t, p, at+"?still"); strings.Contains(still.body, "http-equiv") || !strings.Contains(still.body, `<a href="?">`) {
		t.Error("the page does not hold still")
	}
	post(t, p, at+"/delete").wantRedirect(t, "/app/workspaces")
	for _, action := range []string{"/start", "/stop", "/delete", "/ports", "/preferences", "/limits"} {
		post(t, p, at+action).want(t, 404, "Nothing here")
	}
	post(t, p, "/app/workspaces/"+id(2)+"/start").wantRedirect(t, "/app/workspaces/"+id(2))
}

func TestActions_hugeForm(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/app/workspaces/new/configure", strings.NewReader("name="+long(2000)))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Body = http.MaxBytesReader(httptest.NewRecorder(), r.Body, 1000)
	do(t, newPlane(), r).want(t, http.StatusRequestEntityTooLarge, "more than a form may send")
}

func TestSettings(t *testing.T) {
	p := busy()
	p.files[agent.PreferenceSettings] = "{}"
	a := post(t, p, "/app/settings", "workspace", id(3))
	a.want(t, 200, "Saved. Every workspace gets these when it starts, unless its own were changed.", "No such file there yet", "1 minute ago", "Never")
	if n := strings.Count(a.body, "Never"); n != 1 {
		t.Errorf("%d preferences were never saved, want 1", n)
	}
	post(t, p, "/app/settings", "workspace", id(1)).want(t, 409, "Not everything was saved.", "must be open")
	post(t, p, "/app/settings", "workspace", "none").want(t, 404, "not found")
	post(t, p, "/app/workspaces/"+id(3)+"/preferences").want(t, 200, "Saved.", "Preferences")
	p.files = nil
	post(t, p, "/app/settings", "workspace", id(3)).want(t, 200, "Nothing to save")
}

// TestEscaping puts markup into everything that others can write.
func TestEscaping(t *testing.T) {
	const evil = `"><script>alert(1)</script>`
	p := busy()
	w := &p.workspaces[0]
	w.Name, w.Description, w.RepositoryID, w.Image = evil, evil, evil, evil
	w.Status = agent.StatusError
	w.ErrorMessage = evil
	p.steps[w.ID] = []agent.Step{{Name: "own", Title: evil, Message: evil, State: agent.StepFailed, StartedAt: start, EndedAt: start.Add(time.Minute)}}
	running := busy()
	running.workspaces[0].Name = evil
	running.ports[id(3)][0].Label = evil
	for _, a := range []answer{
		get(t, p, "/app/workspaces"), get(t, p, "/app/workspaces/"+id(3)),
		get(t, running, "/app/workspaces"), get(t, running, "/app/workspaces/"+id(3)), get(t, running, "/app/settings"),
		post(t, running, "/app/workspaces/"+id(3)+"/ports", "port", evil, "label", evil),
		post(t, p, "/app/workspaces/new/configure", "name", evil, "description", evil, "repositoryId", evil, "token", evil),
		get(t, p, "/app/workspaces/new/configure?repo="+url.QueryEscape(evil)),
		post(t, p, "/app/settings", "workspace", evil),
	} {
		if strings.Contains(a.body, "<script>") || !strings.Contains(a.body, "&lt;script&gt;") {
			t.Errorf("%d: markup passed, or the text is lost:\n%s", a.StatusCode, a.body)
		}
	}
}

func TestLog(t *testing.T) {
	p := busy()
	p.logs = "\x1b[31mred\x1b[0m <script>alert(1)</script>\r\n\x1b]0;title\x07plain \x1b]0;t\x1b\\end\x00\n"
	a := get(t, p, "/app/workspaces/"+id(3)+"/log")
	if a.body != "red <script>alert(1)</script>\nplain end\n" || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%q as %s", a.body, a.Header.Get("Content-Type"))
	}
}

func TestAssets(t *testing.T) {
	page := get(t, newPlane(), "/app/workspaces").body
	names := regexp.MustCompile(`/app/assets/[^"]+`).FindAllString(page, -1)
	if len(names) != 3 {
		t.Fatalf("assets: %q", names)
	}
	size := len(page)
	for _, name := range names {
		r := httptest.NewRequest(http.MethodGet, name, nil)
		a := do(t, newPlane(), r)
		a.want(t, 200)
		if !strings.Contains(a.Header.Get("Cache-Control"), "immutable") || a.Header.Get("ETag") == "" || strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %v", name, a.Header)
		}
		r.Header.Set("If-None-Match", a.Header.Get("ETag"))
		do(t, newPlane(), r).want(t, http.StatusNotModified)
		r.Header.Del("If-None-Match")
		r.Header.Set("Accept-Encoding", "br, gzip")
		z := do(t, newPlane(), r)
		if z.Header.Get("Content-Encoding") != "gzip" || len(z.body) >= len(a.body) {
			t.Errorf("%s: %d bytes packed, %d plain", name, len(z.body), len(a.body))
		}
		size += len(z.body)
	}
	if size > 100_000 {
		t.Errorf("a first visit transfers %d bytes", size)
	}
}

// events reads a page's stream.
type events struct {
	t    *testing.T
	scan *bufio.Scanner
}

func follow(t *testing.T, p *plane, target string) events {
	t.Helper()
	s := httptest.NewServer(handler(p))
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		b, _ := io.ReadAll(res.Body)
		t.Fatalf("%s: %s", got, b)
	}
	scan := bufio.NewScanner(res.Body)
	scan.Buffer(nil, 1<<20)
	return events{t, scan}
}

// next returns an event's name and data.
func (e events) next() (name, data string) {
	e.t.Helper()
	for e.scan.Scan() {
		line := e.scan.Text()
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			name = v
		} else if v, ok := strings.CutPrefix(line, "data: "); ok {
			return name, v
		}
	}
	e.t.Fatalf("the stream ended: %v", e.scan.Err())
	return "", ""
}

// regions returns the HTML of the regions of the next event, by name.
func (e events) regions() map[string]string {
	e.t.Helper()
	name, data := e.next()
	var list []struct{ Name, Hash, HTML string }
	if err := json.Unmarshal([]byte(data), &list); err != nil || name != "regions" {
		e.t.Fatalf("event %q: %v", name, err)
	}
	m := map[string]string{}
	for _, r := range list {
		if r.Hash == "" {
			e.t.Errorf("region %s has no hash", r.Name)
		}
		m[r.Name] = r.HTML
	}
	return m
}

// TestLive_detail follows a workspace from creation to its end.
func TestLive_detail(t *testing.T) {
	p := newPlane("one")
	e := follow(t, p, "/app/workspaces/"+id(1)+"/live")
	if first := e.regions(); !strings.Contains(first["status"], "Creating") || !strings.Contains(first["steps"], "Waiting for its turn") || len(first) < 8 {
		t.Errorf("first: %q", first)
	}
	p.mu.Lock()
	p.steps[id(1)] = []agent.Step{{Name: agent.StepContainer, State: agent.StepRunning, StartedAt: start.Add(time.Minute)}}
	p.mu.Unlock()
	p.tell(agent.Event{Kind: agent.EventStep, WorkspaceID: id(1)})
	step := e.regions()
	if len(step) != 1 || !strings.Contains(step["steps"], "Preparing the container") || !strings.Contains(step["steps"], "data-since") {
		t.Errorf("step: %q", step)
	}
	p.set(func(w *agent.Workspace) { w.Status = agent.StatusRunning })
	if now := e.regions(); !strings.Contains(now["status"], "Running") || !strings.Contains(now["actions"], "Open IDE") || now["steps"] != "" {
		t.Errorf("running: %q", now)
	}
	p.set(func(w *agent.Workspace) { w.Status, w.ErrorMessage = agent.StatusError, "It broke." })
	if now := e.regions(); !strings.Contains(now["actions"], "Retry start") || !strings.Contains(now["message"], "It broke.") {
		t.Errorf("error: %q", now)
	}
	if err := p.DeleteWorkspace(t.Context(), id(1)); err != nil {
		t.Fatal(err)
	}
	late := follow(t, p, "/app/workspaces/"+id(1)+"/live") // of a page that was hidden meanwhile
	for _, e := range []events{e, late} {
		if name, data := e.next(); name != "go" || data != `"/app/workspaces"` {
			t.Errorf("deleted: %q %q", name, data)
		}
	}
}

// TestLive_usage: what no event tells is looked at from time to time.
func TestLive_usage(t *testing.T) {
	p := busy()
	e := follow(t, p, "/app/workspaces/"+id(3)+"/live")
	e.regions()
	p.mu.Lock()
	p.usage = &agent.Usage{CPU: 1.25, Memory: 2 << 30, MemoryLimit: 4 << 30, Pids: 7}
	p.mu.Unlock()
	if now := e.regions(); len(now) != 1 || !strings.Contains(now["usage"], "125 %") || !strings.Contains(now["usage"], "2.0 GiB") {
		t.Errorf("usage: %q", now)
	}
}

// TestLive_closing: a stream does not keep the agent from ending, and a
// request for its header alone has none.
func TestLive_closing(t *testing.T) {
	closing := make(chan struct{})
	s := httptest.NewServer(closingHandler(newPlane("one"), closing))
	defer s.Close()
	if res, err := http.Head(s.URL + "/app/workspaces/live"); err != nil || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD: %v, %v", res, err)
	}
	res, err := http.Get(s.URL + "/app/workspaces/live")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	close(closing)
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Errorf("the stream was cut: %v", err)
	}
}

func TestLive_listAndSettings(t *testing.T) {
	p := newPlane("one")
	list, settings := follow(t, p, "/app/workspaces/live"), follow(t, p, "/app/settings/live")
	list.regions()
	if first := settings.regions(); !strings.Contains(first["choices"], "Start a workspace") {
		t.Errorf("settings: %q", first)
	}
	p.set(func(w *agent.Workspace) { w.Status = agent.StatusRunning })
	if now := list.regions(); !strings.Contains(now["list"], "Running") {
		t.Errorf("list: %q", now)
	}
	if now := settings.regions(); !strings.Contains(now["choices"], ">one<") {
		t.Errorf("settings: %q", now)
	}
}
