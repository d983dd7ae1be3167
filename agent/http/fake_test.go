package http_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// epoch is the fake's life.
const epoch = "life"

var born = time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)

// fake is a control plane without jobs: what is asked for is there at once.
// It is for what the real one does not do on demand.
type fake struct {
	mu         sync.Mutex
	workspaces []agent.Workspace // newest first
	ports      []agent.Port
	prefs      []agent.Preference
	events     []agent.Event
	more       chan struct{}
	tokens     []string
	fail       error // what every method returns
	logs       func(ctx context.Context, w io.Writer) error
	slow       bool // event streams end at once
}

func id(n int) string { return fmt.Sprintf("%025d", n) }

func newFake(statuses ...agent.Status) *fake {
	f := &fake{more: make(chan struct{})}
	for i, status := range statuses {
		w := agent.Workspace{ID: id(i + 1), Name: fmt.Sprintf("ws-%d", i+1), Status: status, Image: agent.DefaultImage, CreatedAt: born.Add(time.Duration(i) * time.Second), UpdatedAt: born}
		if status == agent.StatusRunning {
			w.Address = "127.0.0.1:20001"
		}
		if status == agent.StatusError {
			w.ErrorMessage = "The image is missing."
		}
		f.workspaces = slices.Insert(f.workspaces, 0, w)
	}
	return f
}

func (f *fake) emit(e agent.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e.Seq, e.Epoch, e.At = uint64(len(f.events)+1), epoch, born
	f.events = append(f.events, e)
	close(f.more)
	f.more = make(chan struct{})
}

func (f *fake) find(match func(agent.Workspace) bool, key string) (*agent.Workspace, error) {
	if f.fail != nil {
		return nil, f.fail
	}
	i := slices.IndexFunc(f.workspaces, match)
	if i < 0 {
		return nil, agent.Errorf(agent.CodeNotFound, "Workspace %q not found", key)
	}
	return &f.workspaces[i], nil
}

func (f *fake) byID(key string) (*agent.Workspace, error) {
	return f.find(func(w agent.Workspace) bool { return w.ID == key }, key)
}

func (f *fake) CreateWorkspace(_ context.Context, n agent.NewWorkspace) (agent.Workspace, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return agent.Workspace{}, f.fail
	}
	for _, w := range f.workspaces {
		if w.Name == n.Name {
			return w, agent.Errorf(agent.CodeConflict, "Workspace %q already exists", n.Name)
		}
	}
	f.tokens = append(f.tokens, n.Token)
	k := len(f.workspaces) + 1
	w := agent.Workspace{
		ID: id(k), Name: n.Name, Status: agent.StatusCreating, Image: agent.DefaultImage, Description: n.Description,
		RepositoryID: n.RepositoryID, AutoSyncPrefs: n.AutoSyncPrefs, CreatedAt: born.Add(time.Duration(k) * time.Second), UpdatedAt: born,
	}
	f.workspaces = slices.Insert(f.workspaces, 0, w)
	return w, nil
}

func (f *fake) Workspace(_ context.Context, key string) (agent.Workspace, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, err := f.byID(key)
	if err != nil {
		return agent.Workspace{}, err
	}
	return *w, nil
}

func (f *fake) WorkspaceByName(_ context.Context, name string) (agent.Workspace, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, err := f.find(func(w agent.Workspace) bool { return w.Name == name }, name)
	if err != nil {
		return agent.Workspace{}, err
	}
	return *w, nil
}

func (f *fake) ListWorkspaces(_ context.Context, after agent.Cursor, limit int) ([]agent.Workspace, agent.Cursor, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var page []agent.Workspace
	for _, w := range f.workspaces {
		if after.ID != "" && !w.CreatedAt.Before(after.CreatedAt) {
			continue
		}
		if len(page) == limit {
			last := page[limit-1]
			return page, agent.Cursor{CreatedAt: last.CreatedAt, ID: last.ID}, f.fail
		}
		page = append(page, w)
	}
	return page, agent.Cursor{}, f.fail
}

func (f *fake) move(key string, to agent.Status) (agent.Workspace, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, err := f.byID(key)
	if err != nil {
		return agent.Workspace{}, err
	}
	if err := agent.Transition(w.Status, to); err != nil {
		return agent.Workspace{}, err
	}
	w.Status = to
	return *w, nil
}

func (f *fake) StartWorkspace(_ context.Context, key string) (agent.Workspace, error) {
	return f.move(key, agent.StatusCreating)
}

func (f *fake) StopWorkspace(_ context.Context, key string) (agent.Workspace, error) {
	return f.move(key, agent.StatusStopping)
}

func (f *fake) DeleteWorkspace(_ context.Context, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, err := f.byID(key)
	if err != nil {
		return err
	}
	if err := w.Status.Deletable(); err != nil {
		return err
	}
	f.workspaces = slices.DeleteFunc(f.workspaces, func(w agent.Workspace) bool { return w.ID == key })
	return nil
}

func (f *fake) Steps(ctx context.Context, key string) ([]agent.Step, error) {
	if _, err := f.Workspace(ctx, key); err != nil {
		return nil, err
	}
	return []agent.Step{
		{WorkspaceID: key, Job: agent.JobCreate, Name: agent.StepContainer, Title: "Preparing the container", State: agent.StepDone, StartedAt: born, EndedAt: born.Add(time.Second)},
		{WorkspaceID: key, Job: agent.JobCreate, Name: agent.StepStart, Title: "Starting the container", State: agent.StepRunning, StartedAt: born.Add(time.Second)},
	}, nil
}

func (f *fake) Limits(ctx context.Context, key string) (agent.LimitState, error) {
	w, err := f.Workspace(ctx, key)
	state, used := capacity.State(w.Limits), int64(15<<30)
	state.DiskUsed = &used
	return state, err
}

// newest is the digest of the image that the fake's VM carries.
var newest = "sha256:" + strings.Repeat("b", 64)

func (f *fake) Image(ctx context.Context, key string) (agent.ImageState, error) {
	w, err := f.Workspace(ctx, key)
	return agent.ImageState{Reference: w.Image, Digest: w.ImageDigest, Newest: newest}, err
}

func (f *fake) ImageChange(ctx context.Context, key string) (agent.ImageChange, error) {
	state, err := f.Image(ctx, key)
	return agent.ImageChange{ImageState: state, Packages: []string{"postgresql"}}, err
}

func (f *fake) ChangeImage(ctx context.Context, key, digest string) (agent.Workspace, error) {
	if digest != newest {
		return agent.Workspace{}, agent.Errorf(agent.CodeConflict, "There is another image since it was shown")
	}
	return f.StartWorkspace(ctx, key)
}

func (f *fake) Disk(context.Context) (agent.DiskState, error) {
	return agent.DiskState{
		Size: 64 << 30, Free: 40 << 30, Rest: 1 << 30, At: born,
		Workspaces: []agent.DiskShare{{ID: id(1), Name: "ws-1", Used: 15 << 30, Limit: 16 << 30}},
		Orphans:    []agent.DiskShare{{ID: id(9), Used: 7 << 30, Limit: 16 << 30}},
		Images:     []agent.ImageUsage{{Digest: "sha256:" + strings.Repeat("a", 64), Size: 1 << 30}},
	}, f.fail
}

func (f *fake) SetLimits(ctx context.Context, key string, l agent.Limits) (agent.LimitState, error) {
	if _, err := f.Workspace(ctx, key); err != nil {
		return agent.LimitState{}, err
	}
	return capacity.State(l), capacity.Validate(l)
}

// capacity is that of the fake's VM.
var capacity = agent.Capacity{Memory: 6 << 30, Disk: 64 << 30}

func (f *fake) Usage(ctx context.Context, key string) (agent.Usage, error) {
	w, err := f.Workspace(ctx, key)
	if err != nil {
		return agent.Usage{}, err
	}
	if w.Status != agent.StatusRunning {
		return agent.Usage{}, agent.Errorf(agent.CodeConflict, "Workspace %q is not running", key)
	}
	return agent.Usage{CPU: 0.5, Memory: 1 << 20, MemoryLimit: agent.DefaultMemory, Pids: 7}, nil
}

func (f *fake) Logs(ctx context.Context, _ string, tail int, follow bool, w io.Writer) error {
	if f.logs != nil {
		return f.logs(ctx, w)
	}
	_, err := fmt.Fprintf(w, "tail %d follow %v\n", tail, follow)
	return err
}

func (f *fake) ListPorts(_ context.Context, key string) ([]agent.Port, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.byID(key)
	return f.ports, err
}

func (f *fake) Listening(_ context.Context, key string) ([]agent.Listener, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, err := f.byID(key)
	if err != nil {
		return nil, err
	}
	if w.Status != agent.StatusRunning {
		return nil, agent.Errorf(agent.CodeConflict, "Workspace %q is not running (current: %q)", w.Name, w.Status)
	}
	return []agent.Listener{{Port: 5173, Program: "node", Addresses: []string{"::1"}}, {Port: 5432}}, nil
}

func (f *fake) AddPort(_ context.Context, key string, n agent.NewPort) (agent.Port, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, err := f.byID(key)
	if err != nil {
		return agent.Port{}, err
	}
	if err := w.Status.ManagesPorts(); err != nil {
		return agent.Port{}, err
	}
	if slices.ContainsFunc(f.ports, func(p agent.Port) bool { return p.Port == n.Port }) {
		return agent.Port{}, agent.Errorf(agent.CodeConflict, "Port %d is already registered for this workspace", n.Port)
	}
	p := agent.Port{WorkspaceID: key, Port: n.Port, Label: n.Label, CreatedAt: born}
	f.ports = append(f.ports, p)
	return p, nil
}

func (f *fake) RemovePort(_ context.Context, key string, port int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.byID(key); err != nil {
		return err
	}
	i := slices.IndexFunc(f.ports, func(p agent.Port) bool { return p.Port == port })
	if i < 0 {
		return agent.Errorf(agent.CodeNotFound, "Port %d is not registered for this workspace", port)
	}
	f.ports = slices.Delete(f.ports, i, i+1)
	return nil
}

func (f *fake) ListPreferences(context.Context) ([]agent.Preference, error) { return f.prefs, f.fail }

func (f *fake) Preference(_ context.Context, name string) (agent.Preference, error) {
	for _, p := range f.prefs {
		if p.Name == name {
			return p, nil
		}
	}
	return agent.Preference{}, agent.Errorf(agent.CodeNotFound, "Preference %q not found", name)
}

func (f *fake) PreferenceTimes(context.Context) (map[string]time.Time, error) {
	times := map[string]time.Time{}
	for _, p := range f.prefs {
		times[p.Name] = p.UpdatedAt
	}
	return times, f.fail
}

// difference is what every workspace that runs has: key bindings that run
// something.
func difference(name, key string) agent.PreferenceDifference {
	return agent.PreferenceDifference{
		WorkspaceID: key, Name: name, Found: agent.FileOf("[7]"), Kind: agent.NoteUnseen, Message: "Look at it.", Programs: []string{"binding = 7"},
	}
}

func (f *fake) SavePreference(ctx context.Context, name, key, confirm string) (agent.Preference, error) {
	w, err := f.Workspace(ctx, key)
	if err != nil {
		return agent.Preference{}, err
	}
	if w.Status != agent.StatusRunning {
		return agent.Preference{}, agent.Errorf(agent.CodeConflict, "Workspace %q is not running", key)
	}
	p := agent.Preference{Name: name, Blob: "{\"a\":\t1}\n", UpdatedAt: born}
	if d := difference(name, key); name == agent.PreferenceKeybindings {
		if confirm != d.Digest() {
			e := agent.Errorf(agent.CodeConflict, "It can run programs.")
			e.Difference = &d
			return agent.Preference{}, e
		}
		p.Blob = d.Found.Content
	}
	f.prefs = append(f.prefs, p)
	return p, nil
}

func (f *fake) RemovePreference(_ context.Context, name string) error {
	n := len(f.prefs)
	f.prefs = slices.DeleteFunc(f.prefs, func(p agent.Preference) bool { return p.Name == name })
	if len(f.prefs) == n {
		return agent.Errorf(agent.CodeNotFound, "Setting %q not found", name)
	}
	return nil
}

func (f *fake) PreferenceNotes(ctx context.Context, key string) ([]agent.PreferenceCopy, error) {
	if key != "" {
		if _, err := f.Workspace(ctx, key); err != nil {
			return nil, err
		}
	}
	note := agent.PreferenceNote{Kind: agent.NoteFault, Message: "It is a directory.", NotedAt: born}
	return []agent.PreferenceCopy{{WorkspaceID: id(2), Name: agent.IDEConfiguration, PreferenceNote: note}}, f.fail
}

func (f *fake) PreferenceDifference(ctx context.Context, key, name string) (agent.PreferenceDifference, error) {
	w, err := f.Workspace(ctx, key)
	if err == nil && w.Status != agent.StatusRunning {
		err = agent.Errorf(agent.CodeConflict, "Workspace %q is not running", key)
	}
	return difference(name, key), err
}

func (f *fake) ResolvePreference(ctx context.Context, key, name string, choice agent.PreferenceChoice, confirm string) error {
	d, err := f.PreferenceDifference(ctx, key, name)
	if err != nil {
		return err
	}
	if choice == agent.ChooseStored {
		return agent.Errorf(agent.CodeNotFound, "Setting %q not found", name)
	}
	if confirm != d.Digest() {
		e := agent.Errorf(agent.CodeConflict, "It was changed.")
		e.Difference = &d
		return e
	}
	return nil
}

func (f *fake) Route(_ context.Context, name string, port int) (agent.Route, error) {
	w, err := f.find(func(w agent.Workspace) bool { return w.Name == name }, name)
	if err != nil {
		return agent.Route{}, err
	}
	if w.Status != agent.StatusRunning {
		return agent.Route{}, agent.Errorf(agent.CodeConflict, "Workspace %q is not running", name)
	}
	return agent.Route{Workspace: name, Upstream: w.Address, Port: port}, nil
}

func (f *fake) Events(ctx context.Context, life string, after uint64) (<-chan agent.Event, bool) {
	out := make(chan agent.Event)
	reset := life != epoch
	if reset {
		f.mu.Lock()
		after = uint64(len(f.events))
		f.mu.Unlock()
	}
	if f.slow {
		close(out)
		return out, reset
	}
	go func() {
		defer close(out)
		for {
			f.mu.Lock()
			events, more := f.events[after:], f.more
			f.mu.Unlock()
			for _, e := range events {
				select {
				case out <- e:
					after = e.Seq
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, reset
}

// fakeRuntime remembers the last call and knows one running container.
type fakeRuntime struct {
	last  string
	files map[string][]byte
	fail  error
}

func (f *fakeRuntime) call(id, format string, args ...any) error {
	f.last = fmt.Sprintf(format, args...)
	if f.fail != nil {
		return f.fail
	}
	if id == ids.missing {
		return agent.Errorf(agent.CodeNotFound, "Workspace %q has no container", id)
	}
	return nil
}

// ids that the fakes treat specially.
var ids = struct{ missing string }{missing: strings.Repeat("z", 25)}

func (f *fakeRuntime) Create(_ context.Context, c agent.Container) error {
	return f.call("", "create %+v", c)
}
func (f *fakeRuntime) Start(_ context.Context, id string) error { return f.call(id, "start %s", id) }
func (f *fakeRuntime) Stop(_ context.Context, id string, grace time.Duration) error {
	return f.call(id, "stop %s %s", id, grace)
}
func (f *fakeRuntime) Remove(_ context.Context, id string) error { return f.call("", "remove %s", id) }
func (f *fakeRuntime) Status(_ context.Context, id string) (agent.ContainerStatus, error) {
	if id == ids.missing {
		return agent.ContainerNotFound, f.fail
	}
	return agent.ContainerRunning, f.fail
}
func (f *fakeRuntime) Address(_ context.Context, id string) (string, error) {
	return "127.0.0.1:20001", f.call(id, "address")
}
func (f *fakeRuntime) Configure(_ context.Context, id string, c agent.IDEConfig) error {
	return f.call(id, "configure %+v", c)
}
func (f *fakeRuntime) Clone(_ context.Context, id string, c agent.Clone) error {
	return f.call(id, "clone %+v", c)
}
func (f *fakeRuntime) ReadFile(_ context.Context, id, path string) ([]byte, error) {
	if err := f.call(id, "read %s", path); err != nil {
		return nil, err
	}
	b, ok := f.files[path]
	if !ok {
		return nil, agent.Errorf(agent.CodeNotFound, "File %q not found", path)
	}
	return b, nil
}
func (f *fakeRuntime) WriteFile(_ context.Context, id, path string, content []byte) error {
	if f.files == nil {
		f.files = map[string][]byte{}
	}
	f.files[path] = content
	return f.call(id, "write %s", path)
}

// fakeRepositories finds one repository.
type fakeRepositories struct{ fail error }

var found = agent.Repository{FullName: "me/x", Owner: "me", OwnerType: "User", DefaultBranch: "main", UpdatedAt: born}

func (f fakeRepositories) ListRepositories(context.Context, agent.RepositoryQuery) (agent.RepositoryPage, error) {
	return agent.RepositoryPage{}, f.fail
}

func (f fakeRepositories) SearchRepositories(_ context.Context, q agent.RepositoryQuery) (agent.RepositoryPage, error) {
	return agent.RepositoryPage{Items: []agent.Repository{found}, Total: 1, NextPage: q.Page + 1}, f.fail
}

// noMetrics counts nothing.
type noMetrics struct{}

func (noMetrics) ServeHTTP(w nethttp.ResponseWriter, _ *nethttp.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	_, _ = io.WriteString(w, "up 1\n")
}

func (noMetrics) Request(string, string, int, time.Duration) {}

var errSecret = errors.New("disk I/O error: secret")
