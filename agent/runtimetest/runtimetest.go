// Package runtimetest is the contract of [agent.Runtime], [agent.Inventory],
// [agent.Observer] and [agent.IDEHealth] as a test, run on every
// implementation. It imports only the domain and testing.
package runtimetest

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// Subject is an implementation and what it can be tested with.
type Subject struct {
	Runtime   agent.Runtime
	Files     agent.FileReplacer
	Inventory agent.Inventory
	Observer  agent.Observer
	Health    agent.IDEHealth

	Memory     agent.MemoryLimiter
	Terminator agent.Terminator

	Image string // "" is the default
	Ports [2]int // free ports on the loopback interface
	Slots [2]int // of ids that nobody else uses meanwhile
	// Repository is the address of a repository with a README.md that can be
	// cloned from inside a workspace.
	Repository string
	// Missing is an address from which nothing can be cloned, "" when there is
	// none for this implementation.
	Missing string
	// Patience is how long an IDE may need until it answers; 0 is a minute.
	Patience time.Duration
}

// The two workspaces of the suite.
const (
	first  = "0000000000000000000000001"
	second = "0000000000000000000000002"
)

const (
	grace = 10 * time.Second
	quota = 2 << 30 // bytes
)

// suite is one run.
type suite struct {
	Subject
	one, two agent.Container
}

// Run tests an implementation. It removes the two workspaces it makes, at the
// end too, and expects to find others' untouched.
func Run(t *testing.T, s Subject) {
	if s.Patience == 0 {
		s.Patience = time.Minute
	}
	r := suite{
		Subject: s,
		one:     agent.Container{ID: first, Name: "suite-one", Image: s.Image, Port: s.Ports[0], Slot: s.Slots[0], Quota: quota},
		two:     agent.Container{ID: second, Name: "suite-two", Image: s.Image, Port: s.Ports[1], Slot: s.Slots[1], Quota: quota},
	}
	t.Cleanup(func() { r.clean(t) })
	r.clean(t)

	for _, tt := range []struct {
		name string
		f    func(*testing.T)
	}{ // in this order: each begins where the one before ended
		{"Unknown", r.unknown},
		{"Create", r.create},
		{"NotRunning", r.notRunning},
		{"Start", r.start},
		{"Files", r.files},
		{"Configure", r.configure},
		{"Health", r.health},
		{"Clone", r.clone},
		{"Observer", r.observe},
		{"Memory", r.memory},
		{"Second", r.second},
		{"Cancelled", r.cancelled},
		{"Stop", r.stop},
		{"Restart", r.restart},
		{"Recreate", r.recreate},
		{"Remove", r.remove},
	} {
		if !t.Run(tt.name, tt.f) {
			t.Fatalf("%s failed: what follows it builds on it", tt.name)
		}
	}
}

func (r *suite) clean(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	for _, id := range []string{first, second} {
		if err := r.Runtime.Remove(ctx, id); err != nil {
			t.Errorf("remove %s: %v", id, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	if got := agent.ErrorCode(err); got != code {
		t.Errorf("%s: %v (%s), want %s", what, err, got, code)
	}
}

func (r *suite) wantStatus(t *testing.T, id string, want agent.ContainerStatus) {
	t.Helper()
	got, err := r.Runtime.Status(t.Context(), id)
	if err != nil || got != want {
		t.Fatalf("status of %s: %q, %v, want %q", id, got, err, want)
	}
}

func (r *suite) wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := r.Runtime.ReadFile(t.Context(), first, path)
	if err != nil || string(got) != want {
		t.Errorf("%s: %.80q, %v, want %.80q", path, got, err, want)
	}
}

// entry is the inventory's for id.
func (r *suite) entry(t *testing.T, id string) (agent.ContainerRef, bool) {
	t.Helper()
	refs, err := r.Inventory.List(t.Context())
	must(t, err)
	i := slices.IndexFunc(refs, func(c agent.ContainerRef) bool { return c.ID == id })
	if i < 0 {
		return agent.ContainerRef{}, false
	}
	return refs[i], true
}

func (r *suite) unknown(t *testing.T) {
	must(t, r.Memory.SetMemory(t.Context(), first, 1<<30))
	must(t, r.Terminator.Terminate(t.Context(), first))
	ctx := t.Context()
	r.wantStatus(t, first, agent.ContainerNotFound)
	must(t, r.Runtime.Remove(ctx, first))
	_, err := r.Runtime.Address(ctx, first)
	wantCode(t, "address", err, agent.CodeNotFound)
	_, err = r.Observer.MemoryKills(ctx, first)
	wantCode(t, "memory", err, agent.CodeNotFound)
	_, err = r.Runtime.ReadFile(ctx, first, "x")
	wantCode(t, "read", err, agent.CodeNotFound)
	wantCode(t, "write", r.Runtime.WriteFile(ctx, first, "x", nil), agent.CodeNotFound)
	wantCode(t, "start", r.Runtime.Start(ctx, first), agent.CodeNotFound)
	wantCode(t, "stop", r.Runtime.Stop(ctx, first, grace), agent.CodeNotFound)
	wantCode(t, "configure", r.Runtime.Configure(ctx, first, agent.IDEConfig{Name: r.one.Name}), agent.CodeNotFound)
	wantCode(t, "clone", r.Runtime.Clone(ctx, first, r.repository()), agent.CodeNotFound)
	wantCode(t, "logs", r.Observer.Logs(ctx, first, 1, false, &bytes.Buffer{}), agent.CodeNotFound)
	_, err = r.Observer.Usage(ctx, first)
	wantCode(t, "usage", err, agent.CodeNotFound)
	wantCode(t, "wait", r.Observer.Wait(ctx, first), agent.CodeNotFound)

	for _, slot := range []int{-1, agent.ContainerSlots} { // of which there are none
		c := r.one
		c.Slot = slot
		if err := r.Runtime.Create(ctx, c); err == nil {
			t.Errorf("a container of slot %d was created", slot)
		}
		r.wantStatus(t, first, agent.ContainerNotFound)
	}

	if c, ok := r.entry(t, first); ok {
		t.Errorf("listed: %+v", c)
	}
}

func (r *suite) create(t *testing.T) {
	for range 2 {
		must(t, r.Runtime.Create(t.Context(), r.one))
		r.wantStatus(t, first, agent.ContainerStopped)
	}
	want := agent.ContainerRef{ID: first, Name: r.one.Name, Slot: r.one.Slot, Status: agent.ContainerStopped, HasHome: true}
	if got, ok := r.entry(t, first); !ok || got != want {
		t.Errorf("listed: %+v, %v, want %+v", got, ok, want)
	}
}

func (r *suite) notRunning(t *testing.T) {
	ctx := t.Context()
	wantCode(t, "configure", r.Runtime.Configure(ctx, first, agent.IDEConfig{Name: r.one.Name}), agent.CodeConflict)
	wantCode(t, "clone", r.Runtime.Clone(ctx, first, r.repository()), agent.CodeConflict)
	_, err := r.Files.ReplaceFile(ctx, first, "x", agent.File{}, nil)
	wantCode(t, "replace", err, agent.CodeConflict)
	_, err = r.Observer.Usage(ctx, first)
	wantCode(t, "usage", err, agent.CodeConflict)
	must(t, r.Runtime.Stop(ctx, first, grace)) // it is stopped already
	must(t, r.Observer.Wait(ctx, first))
	r.wantStatus(t, first, agent.ContainerStopped)
}

func (r *suite) start(t *testing.T) {
	for range 2 {
		must(t, r.Runtime.Start(t.Context(), first))
		r.wantStatus(t, first, agent.ContainerRunning)
	}
	must(t, r.Runtime.Create(t.Context(), r.one)) // it is there: left alone
	r.wantStatus(t, first, agent.ContainerRunning)
	if got, ok := r.entry(t, first); !ok || got.Status != agent.ContainerRunning {
		t.Errorf("listed: %+v, %v", got, ok)
	}
}

func (r *suite) files(t *testing.T) {
	ctx := t.Context()
	_, err := r.Runtime.ReadFile(ctx, first, ".gitconfig")
	wantCode(t, ".gitconfig of a fresh workspace", err, agent.CodeNotFound)
	_, err = r.Runtime.ReadFile(ctx, first, "no/such/directory/file")
	wantCode(t, "file in a missing directory", err, agent.CodeNotFound)

	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}

	for _, f := range []struct{ path, content string }{
		{".gitconfig", "[user]\n\tname = Ä\r\n"},
		{"a/b/c d/ü'\"$.bin", string(every)},
		{"empty", ""},
		{"shrinks", strings.Repeat("long", 1000)},
		{"shrinks", "short"},
		{"largest", strings.Repeat("x", agent.MaxFileSize)},
	} {
		must(t, r.Runtime.WriteFile(ctx, first, f.path, []byte(f.content)))
		r.wantFile(t, f.path, f.content)
	}

	_, err = r.Runtime.ReadFile(ctx, first, "a/b")
	wantCode(t, "read a directory", err, agent.CodeConflict)
	r.replace(t)
	wantCode(t, "write over a directory", r.Runtime.WriteFile(ctx, first, "a/b", nil), agent.CodeConflict)

	r.wantFile(t, agent.Home+"/.gitconfig", "[user]\n\tname = Ä\r\n")
	wantCode(t, "too large", r.Runtime.WriteFile(ctx, first, "huge", make([]byte, agent.MaxFileSize+1)), agent.CodeTooLarge)
	_, err = r.Runtime.ReadFile(ctx, first, "huge")
	wantCode(t, "what was too large", err, agent.CodeNotFound)
}

// replace: what was changed since it was read stays, and what was not is replaced.
func (r *suite) replace(t *testing.T) {
	ctx := t.Context()
	replace := func(path string, old agent.File, content string, want bool) {
		t.Helper()
		replaced, err := r.Files.ReplaceFile(ctx, first, path, old, []byte(content))
		if err != nil || replaced != want {
			t.Errorf("replace %s with %q: %t, %v, want %t", path, content, replaced, err, want)
		}
	}

	replace("new/file ü", agent.FileOf("edited"), "1", false) // it is not there
	replace("new/file ü", agent.File{}, "1", true)
	r.wantFile(t, "new/file ü", "1")
	replace("new/file ü", agent.File{}, "2", false) // it has come
	replace("new/file ü", agent.FileOf(""), "2", false)
	r.wantFile(t, "new/file ü", "1")
	replace("new/file ü", agent.FileOf("1"), "2\r\n\x00", true)
	replace("new/file ü", agent.FileOf("1"), "3", false)
	r.wantFile(t, "new/file ü", "2\r\n\x00")

	_, err := r.Files.ReplaceFile(ctx, first, "new", agent.File{}, nil)
	wantCode(t, "replace a directory", err, agent.CodeConflict)
	_, err = r.Files.ReplaceFile(ctx, first, "huge", agent.File{}, make([]byte, agent.MaxFileSize+1))
	wantCode(t, "replace with too much", err, agent.CodeTooLarge)
	_, err = r.Runtime.ReadFile(ctx, first, "new/.file ü.rockpool-new")
	wantCode(t, "what lay beside the file", err, agent.CodeNotFound)
}

func (r *suite) configure(t *testing.T) {
	const folder = ".config/code-server/workspace-folder"
	ctx := t.Context()
	ide := agent.IDEConfig{Name: r.one.Name, Folder: agent.Home + "/project"}
	for range 2 {
		must(t, r.Runtime.Configure(ctx, first, ide))
		got, err := r.Runtime.ReadFile(ctx, first, folder)
		if err != nil || strings.TrimSpace(string(got)) != ide.Folder {
			t.Errorf("folder: %q, %v, want %q", got, err, ide.Folder)
		}
	}
	must(t, r.Runtime.Configure(ctx, first, agent.IDEConfig{Name: r.one.Name}))
	got, err := r.Runtime.ReadFile(ctx, first, folder)
	if err == nil && strings.TrimSpace(string(got)) != "" || err != nil && agent.ErrorCode(err) != agent.CodeNotFound {
		t.Errorf("folder of none: %q, %v", got, err)
	}
	got, err = r.Runtime.ReadFile(ctx, first, ".config/code-server/config.yaml")
	if want := "abs-proxy-base-path: /workspace/" + r.one.Name + "\n"; err != nil || !strings.Contains(string(got)+"\n", want) {
		t.Errorf("configuration: %q, %v, want %q in it", got, err, want)
	}
	r.wantFile(t, ".gitconfig", "[user]\n\tname = Ä\r\n")
}

func (r *suite) health(t *testing.T) {
	address, err := r.Runtime.Address(t.Context(), first)
	must(t, err)
	r.wantHealthy(t, address)
}

func (r *suite) wantHealthy(t *testing.T, address string) {
	t.Helper()
	limit := time.After(r.Patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := r.Health.Healthy(t.Context(), address)
		if err == nil {
			return
		}
		select {
		case <-limit:
			t.Fatalf("the IDE at %s does not answer: %v", address, err)
		case <-tick.C:
		}
	}
}

func (r *suite) repository() agent.Clone {
	return agent.Clone{URL: r.Repository, Folder: agent.Home + "/project"}
}

func (r *suite) clone(t *testing.T) {
	ctx := t.Context()
	if r.Missing != "" {
		if err := r.Runtime.Clone(ctx, first, agent.Clone{URL: r.Missing, Folder: agent.Home + "/project", Token: "not-a-secret-token"}); err == nil {
			t.Error("what is not there was cloned")
		} else if strings.Contains(err.Error(), "not-a-secret-token") {
			t.Errorf("the error tells the token: %v", err)
		}
	}
	must(t, r.Runtime.Clone(ctx, first, r.repository()))
	if got, err := r.Runtime.ReadFile(ctx, first, "project/README.md"); err != nil || len(got) == 0 {
		t.Errorf("README.md: %q, %v", got, err)
	}
	must(t, r.Runtime.WriteFile(ctx, first, "project/README.md", []byte("mine")))
	must(t, r.Runtime.Clone(ctx, first, r.repository())) // it is there: left alone
	r.wantFile(t, "project/README.md", "mine")

	must(t, r.Runtime.WriteFile(ctx, first, "taken/note.txt", []byte("mine")))
	taken := agent.Clone{URL: r.Repository, Folder: agent.Home + "/taken"}
	wantCode(t, "clone over a user's directory", r.Runtime.Clone(ctx, first, taken), agent.CodeConflict)
	r.wantFile(t, "taken/note.txt", "mine")
}

func (r *suite) observe(t *testing.T) {
	u, err := r.Observer.Usage(t.Context(), first)
	if err != nil || u.Memory <= 0 || u.Pids <= 0 || u.MemoryLimit != agent.DefaultMemory {
		t.Errorf("usage: %+v, %v", u, err)
	}
	var all, last bytes.Buffer
	must(t, r.Observer.Logs(t.Context(), first, 1000, false, &all))
	must(t, r.Observer.Logs(t.Context(), first, 1, false, &last))
	if all.Len() == 0 || bytes.Count(last.Bytes(), []byte("\n")) > 1 {
		t.Errorf("logs: %q; the last line: %q", &all, &last)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := r.Observer.Logs(ctx, first, 1, true, &bytes.Buffer{}); err != nil && ctx.Err() == nil {
		t.Errorf("following logs: %v", err)
	}
	if ctx.Err() == nil {
		t.Error("following the logs of a running container ended by itself")
	}
}

// memory changes what a running container may use, and back.
func (r *suite) memory(t *testing.T) {
	for _, limit := range []int64{1 << 30, agent.DefaultMemory} {
		must(t, r.Memory.SetMemory(t.Context(), first, limit))
		u, err := r.Observer.Usage(t.Context(), first)
		if err != nil || u.MemoryLimit != limit {
			t.Errorf("it may use %d bytes, %v, want %d", u.MemoryLimit, err, limit)
		}
	}
	for range 2 { // what is remembered is what was asked
		k, err := r.Observer.MemoryKills(t.Context(), first)
		if err != nil || k.Since.IsZero() || k.Processes != 0 || k.Own != 0 || k.Whole {
			t.Errorf("%+v, %v", k, err)
		}
	}
	shared, err := r.Memory.SharedMemory(t.Context())
	if err != nil || shared.Used <= 0 || shared.Used > shared.Limit {
		t.Errorf("all together: %+v, %v", shared, err)
	}
}

func (r *suite) second(t *testing.T) {
	ctx := t.Context()
	must(t, r.Runtime.Create(ctx, r.two))
	must(t, r.Runtime.Start(ctx, second))
	if _, err := r.Runtime.ReadFile(ctx, second, ".gitconfig"); agent.ErrorCode(err) != agent.CodeNotFound {
		t.Errorf("a file of the other workspace: %v", err)
	}
	one, err := r.Runtime.Address(ctx, first)
	must(t, err)
	two, err := r.Runtime.Address(ctx, second)
	if err != nil || one == two {
		t.Errorf("addresses: %q and %q, %v", one, two, err)
	}
	must(t, r.Runtime.Remove(ctx, second))
	r.wantStatus(t, second, agent.ContainerNotFound)
	r.wantStatus(t, first, agent.ContainerRunning)
}

func (r *suite) cancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Runtime.Stop(ctx, first, grace); err == nil {
		t.Error("stop succeeded after its context had ended")
	}
	if _, err := r.Inventory.List(ctx); err == nil {
		t.Error("list succeeded after its context had ended")
	}
}

func (r *suite) stop(t *testing.T) {
	ended := make(chan error, 1)
	go func() { ended <- r.Observer.Wait(t.Context(), first) }()
	impatient, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := r.Observer.Wait(impatient, first); err == nil {
		t.Error("the wait for a running container was over")
	}

	select {
	case err := <-ended:
		t.Errorf("the wait for a running container was over: %v", err)
	default:
	}

	must(t, r.Terminator.Terminate(t.Context(), first))
	must(t, r.Runtime.Stop(t.Context(), first, grace))
	must(t, <-ended)

	for range 2 {
		must(t, r.Runtime.Stop(t.Context(), first, grace))
		r.wantStatus(t, first, agent.ContainerStopped)
	}

	if got, ok := r.entry(t, first); !ok || got.Status != agent.ContainerStopped || !got.HasHome {
		t.Errorf("listed: %+v, %v", got, ok)
	}
}

func (r *suite) restart(t *testing.T) {
	before, err := r.Runtime.Address(t.Context(), first)
	must(t, err)
	must(t, r.Runtime.Start(t.Context(), first))
	r.wantStatus(t, first, agent.ContainerRunning)
	after, err := r.Runtime.Address(t.Context(), first)
	if err != nil || after != before {
		t.Errorf("address: %q, then %q, %v", before, after, err)
	}
	r.wantFile(t, "project/README.md", "mine")
	r.wantHealthy(t, after)
}

// recreate makes the container for another port: it is a new one, the volume
// is the old one.
func (r *suite) recreate(t *testing.T) {
	ctx := t.Context()
	r.one.Port = r.Ports[1]
	must(t, r.Runtime.Create(ctx, r.one))
	r.wantStatus(t, first, agent.ContainerStopped)
	must(t, r.Runtime.Start(ctx, first))
	r.wantFile(t, "project/README.md", "mine")
	must(t, r.Runtime.Configure(ctx, first, agent.IDEConfig{Name: r.one.Name}))
	address, err := r.Runtime.Address(ctx, first)
	must(t, err)
	r.wantHealthy(t, address)
}

func (r *suite) remove(t *testing.T) {
	ctx := t.Context()
	for range 2 { // while it runs, and when it is gone
		must(t, r.Runtime.Remove(ctx, first))
		r.wantStatus(t, first, agent.ContainerNotFound)
	}
	if c, ok := r.entry(t, first); ok {
		t.Errorf("listed: %+v", c)
	}
	must(t, r.Runtime.Create(ctx, r.one))
	must(t, r.Runtime.Start(ctx, first))
	_, err := r.Runtime.ReadFile(ctx, first, "project/README.md")
	wantCode(t, "file of the removed volume", err, agent.CodeNotFound)
}
