package dashboard_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// start is the time at which every test begins.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// plane is a control plane in memory: it changes states as told, without
// containers and without time passing.
type plane struct {
	agent.Routes // not asked by pages

	mu         sync.Mutex
	workspaces []agent.Workspace // newest first
	steps      map[string][]agent.Step
	ports      map[string][]agent.Port
	listening  map[string][]agent.Listener
	listenErr  error
	saved      map[string]agent.Preference
	files      map[string]string // by preference, in every workspace
	untouched  map[string]bool   // preferences whose files no workspace changed, and that are newer
	logs       string
	fault      error // of everything that reads
	usage      *agent.Usage
	used       map[string]int64 // bytes of the disk, by workspace
	disk       agent.DiskState  // but for the workspaces
	newest     string           // digest of the image that the VM carries
	change     agent.ImageChange
	watchers   []chan agent.Event
	notes      []agent.PreferenceCopy
	choices    []agent.PreferenceChoice
	read       int // how often stored preferences were read
	created    []agent.NewWorkspace
}

func newPlane(names ...string) *plane {
	p := &plane{steps: map[string][]agent.Step{}, ports: map[string][]agent.Port{}, listening: map[string][]agent.Listener{}, saved: map[string]agent.Preference{}, files: map[string]string{}}
	for _, name := range names {
		_, _ = p.CreateWorkspace(context.Background(), agent.NewWorkspace{Name: name})
	}
	return p
}

func id(n int) string { return fmt.Sprintf("%025d", n) }

// set changes the newest workspace and tells those who watch.
func (p *plane) set(change func(*agent.Workspace)) {
	p.mu.Lock()
	change(&p.workspaces[0])
	w := p.workspaces[0]
	p.mu.Unlock()
	p.tell(agent.Event{Kind: agent.EventWorkspace, WorkspaceID: w.ID, Workspace: &w})
}

func (p *plane) tell(e agent.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.watchers {
		c <- e
	}
}

func (p *plane) find(match func(agent.Workspace) bool, name string) (agent.Workspace, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault != nil {
		return agent.Workspace{}, p.fault
	}
	if i := slices.IndexFunc(p.workspaces, match); i >= 0 {
		return p.workspaces[i], nil
	}
	return agent.Workspace{}, agent.Errorf(agent.CodeNotFound, "Workspace %q not found", name)
}

func (p *plane) Workspace(_ context.Context, id string) (agent.Workspace, error) {
	return p.find(func(w agent.Workspace) bool { return w.ID == id }, id)
}

func (p *plane) WorkspaceByName(_ context.Context, name string) (agent.Workspace, error) {
	return p.find(func(w agent.Workspace) bool { return w.Name == name }, name)
}

func (p *plane) CreateWorkspace(_ context.Context, n agent.NewWorkspace) (agent.Workspace, error) {
	if err := n.Validate(); err != nil {
		return agent.Workspace{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.ContainsFunc(p.workspaces, func(w agent.Workspace) bool { return w.Name == n.Name }) {
		return agent.Workspace{}, agent.Errorf(agent.CodeConflict, "Workspace %q already exists", n.Name)
	}
	p.created = append(p.created, n)
	at := start.Add(time.Duration(len(p.created)) * time.Second)
	w := agent.Workspace{
		ID: id(len(p.created)), Name: n.Name, Status: agent.StatusCreating, Image: cmp.Or(n.Image, agent.DefaultImage),
		Description: n.Description, RepositoryID: n.RepositoryID, AutoSyncPrefs: n.AutoSyncPrefs, CreatedAt: at, UpdatedAt: at,
	}
	p.workspaces = slices.Insert(p.workspaces, 0, w)
	return w, nil
}

func (p *plane) ListWorkspaces(_ context.Context, after agent.Cursor, limit int) ([]agent.Workspace, agent.Cursor, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault != nil {
		return nil, agent.Cursor{}, p.fault
	}
	rest := p.workspaces
	if after.ID != "" {
		rest = rest[slices.IndexFunc(rest, func(w agent.Workspace) bool { return w.ID == after.ID })+1:]
	}
	if len(rest) <= limit {
		return slices.Clone(rest), agent.Cursor{}, nil
	}
	last := rest[limit-1]
	return slices.Clone(rest[:limit]), agent.Cursor{CreatedAt: last.CreatedAt, ID: last.ID}, nil
}

// move changes a state as the control plane does.
func (p *plane) move(id string, to agent.Status) (agent.Workspace, error) {
	w, err := p.Workspace(context.Background(), id)
	if err != nil {
		return w, err
	}
	if err := agent.Transition(w.Status, to); err != nil {
		return w, err
	}
	p.mu.Lock()
	i := slices.IndexFunc(p.workspaces, func(o agent.Workspace) bool { return o.ID == id })
	p.workspaces[i].Status = to
	w = p.workspaces[i]
	p.mu.Unlock()
	p.tell(agent.Event{Kind: agent.EventWorkspace, WorkspaceID: id, Workspace: &w})
	return w, nil
}

func (p *plane) StartWorkspace(_ context.Context, id string) (agent.Workspace, error) {
	return p.move(id, agent.StatusCreating)
}

func (p *plane) StopWorkspace(_ context.Context, id string) (agent.Workspace, error) {
	return p.move(id, agent.StatusStopping)
}

func (p *plane) DeleteWorkspace(ctx context.Context, id string) error {
	w, err := p.Workspace(ctx, id)
	if err != nil {
		return err
	}
	if err := w.Status.Deletable(); err != nil {
		return err
	}
	p.mu.Lock()
	p.workspaces = slices.DeleteFunc(p.workspaces, func(o agent.Workspace) bool { return o.ID == id })
	p.mu.Unlock()
	p.tell(agent.Event{Kind: agent.EventDeleted, WorkspaceID: id})
	return nil
}

func (p *plane) Steps(_ context.Context, id string) ([]agent.Step, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.steps[id]), nil
}

// capacity is that of the fake's VM.
var capacity = agent.Capacity{Memory: 6 << 30, Disk: 64 << 30}

func (p *plane) Limits(ctx context.Context, id string) (agent.LimitState, error) {
	w, err := p.Workspace(ctx, id)
	state := capacity.State(w.Limits)
	if used, known := p.used[id]; known {
		state.DiskUsed = &used
	}
	return state, err
}

func (p *plane) Image(ctx context.Context, id string) (agent.ImageState, error) {
	w, err := p.Workspace(ctx, id)
	return agent.ImageState{Reference: w.Image, Digest: w.ImageDigest, Newest: p.newest}, err
}

func (p *plane) ImageChange(ctx context.Context, id string) (agent.ImageChange, error) {
	state, err := p.Image(ctx, id)
	c := p.change
	c.ImageState = state
	return c, err
}

func (p *plane) ChangeImage(ctx context.Context, id, digest string) (agent.Workspace, error) {
	if digest != p.newest {
		return agent.Workspace{}, agent.Errorf(agent.CodeConflict, "There is another image since it was shown")
	}
	return p.move(id, agent.StatusCreating)
}

func (p *plane) Disk(context.Context) (agent.DiskState, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.disk
	if d.Size == 0 {
		return d, agent.Errorf(agent.CodeUnavailable, "The disk for workspaces does not answer yet.")
	}
	for _, w := range p.workspaces {
		d.Workspaces = append(d.Workspaces, agent.DiskShare{ID: w.ID, Name: w.Name, Used: p.used[w.ID], Limit: capacity.Of(w.Limits).Disk})
	}
	return d, nil
}

func (p *plane) SetLimits(ctx context.Context, id string, l agent.Limits) (agent.LimitState, error) {
	if _, err := p.Workspace(ctx, id); err != nil {
		return agent.LimitState{}, err
	}
	if err := capacity.Validate(l); err != nil {
		return agent.LimitState{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.workspaces, func(o agent.Workspace) bool { return o.ID == id })
	p.workspaces[i].Limits = l
	return capacity.State(l), nil
}

func (p *plane) Usage(context.Context, string) (agent.Usage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.usage == nil {
		return agent.Usage{}, agent.Errorf(agent.CodeConflict, "It does not run")
	}
	return *p.usage, nil
}

func (p *plane) Logs(ctx context.Context, id string, _ int, _ bool, w io.Writer) error {
	if _, err := p.Workspace(ctx, id); err != nil {
		return err
	}
	_, err := io.WriteString(w, p.logs)
	return err
}

func (p *plane) ListPorts(_ context.Context, id string) ([]agent.Port, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.ports[id]), nil
}

func (p *plane) Listening(_ context.Context, id string) ([]agent.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listening[id], p.listenErr
}

func (p *plane) AddPort(ctx context.Context, id string, n agent.NewPort) (agent.Port, error) {
	w, err := p.Workspace(ctx, id)
	if err == nil {
		err = n.Validate()
	}
	if err == nil {
		err = w.Status.ManagesPorts()
	}
	if err != nil {
		return agent.Port{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.ContainsFunc(p.ports[id], func(o agent.Port) bool { return o.Port == n.Port }) {
		return agent.Port{}, agent.Errorf(agent.CodeConflict, "Port %d is already registered for this workspace", n.Port)
	}
	port := agent.Port{WorkspaceID: id, Port: n.Port, Label: n.Label, CreatedAt: start}
	p.ports[id] = append(p.ports[id], port)
	return port, nil
}

func (p *plane) RemovePort(_ context.Context, id string, port int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.ports[id])
	p.ports[id] = slices.DeleteFunc(p.ports[id], func(o agent.Port) bool { return o.Port == port })
	if len(p.ports[id]) == n {
		return agent.Errorf(agent.CodeNotFound, "Port %d is not registered", port)
	}
	return nil
}

func (p *plane) ListPreferences(context.Context) ([]agent.Preference, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault != nil {
		return nil, p.fault
	}
	p.read++
	var all []agent.Preference
	for _, name := range agent.PreferenceNames() {
		if s, ok := p.saved[name]; ok {
			all = append(all, s)
		}
	}
	return all, nil
}

func (p *plane) Preference(_ context.Context, name string) (agent.Preference, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s, ok := p.saved[name]; ok {
		return s, nil
	}
	return agent.Preference{}, agent.Errorf(agent.CodeNotFound, "Setting %q not found", name)
}

func (p *plane) PreferenceTimes(context.Context) (map[string]time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	times := map[string]time.Time{}
	for _, s := range p.saved {
		times[s.Name] = s.UpdatedAt
	}
	return times, p.fault
}

// difference of a preference in a workspace. What has a "!" can run programs.
func (p *plane) difference(id, name string) agent.PreferenceDifference {
	d := agent.PreferenceDifference{WorkspaceID: id, Name: name}
	if s, ok := p.saved[name]; ok {
		d.Stored = agent.FileOf(s.Blob)
	}
	if f, ok := p.files[name]; ok {
		d.Found = agent.FileOf(f)
	}
	for line := range strings.Lines(d.Found.Content) {
		if strings.Contains(line, "!") {
			d.Programs = append(d.Programs, strings.TrimSpace(line))
		}
	}
	for _, n := range p.notes {
		if n.WorkspaceID == id && n.Name == name {
			d.Kind, d.Message = n.Kind, n.Message
		}
	}
	return d
}

func (p *plane) SavePreference(ctx context.Context, name, id, confirm string) (agent.Preference, error) {
	w, err := p.Workspace(ctx, id)
	if err != nil {
		return agent.Preference{}, err
	}
	if w.Status != agent.StatusRunning {
		return agent.Preference{}, agent.Errorf(agent.CodeConflict, "The workspace must be open to read from it")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	blob, ok := p.files[name]
	if !ok {
		return agent.Preference{}, agent.Errorf(agent.CodeNotFound, "There is no such file")
	}
	if d := p.difference(id, name); confirm == "" && p.untouched[name] {
		return p.saved[name], nil
	} else if (d.Kind == agent.NoteConflict || len(d.Programs) > 0) && confirm != d.Digest() {
		e := agent.Errorf(agent.CodeConflict, "Look at the difference.")
		e.Difference = &d
		return agent.Preference{}, e
	}
	at := start
	if was := p.saved[name].UpdatedAt; !was.IsZero() {
		at = was.Add(time.Second) // saved again
	}
	p.saved[name] = agent.Preference{Name: name, Blob: blob, UpdatedAt: at}
	return p.saved[name], nil
}

func (p *plane) RemovePreference(ctx context.Context, name string) error {
	if _, err := p.Preference(ctx, name); err != nil {
		return err
	}
	delete(p.saved, name)
	return nil
}

func (p *plane) PreferenceNotes(_ context.Context, id string) ([]agent.PreferenceCopy, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.notes), func(n agent.PreferenceCopy) bool { return id != "" && n.WorkspaceID != id }), p.fault
}

func (p *plane) PreferenceDifference(ctx context.Context, id, name string) (agent.PreferenceDifference, error) {
	if _, err := p.Workspace(ctx, id); err != nil {
		return agent.PreferenceDifference{}, err
	}
	if agent.PreferencePath(name) == "" {
		return agent.PreferenceDifference{}, agent.Errorf(agent.CodeValidation, "name must be another")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.difference(id, name), nil
}

func (p *plane) ResolvePreference(ctx context.Context, id, name string, choice agent.PreferenceChoice, confirm string) error {
	d, err := p.PreferenceDifference(ctx, id, name)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if confirm != d.Digest() {
		e := agent.Errorf(agent.CodeConflict, "It was changed since it was shown.")
		e.Difference = &d
		return e
	}
	p.notes = nil
	p.choices = append(p.choices, choice)
	return nil
}

func (p *plane) Events(ctx context.Context, _ string, _ uint64) (<-chan agent.Event, bool) {
	c := make(chan agent.Event, 64)
	p.mu.Lock()
	p.watchers = append(p.watchers, c)
	p.mu.Unlock()
	go func() {
		<-ctx.Done()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.watchers = slices.DeleteFunc(p.watchers, func(o chan agent.Event) bool { return o == c })
		close(c)
	}()
	return c, true
}
