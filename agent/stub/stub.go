// Package stub is a runtime without containers: deterministic, in memory, for
// tests and for RUNTIME=stub. It owns nothing outside the process but, when
// asked to serve, a loopback listener per running workspace. It imports only
// the domain.
package stub

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// Op is a method of the runtime.
type Op string

// The methods, as [Hook] sees them.
const (
	OpCreate    Op = "create"
	OpStart     Op = "start"
	OpStop      Op = "stop"
	OpRemove    Op = "remove"
	OpStatus    Op = "status"
	OpAddress   Op = "address"
	OpConfigure Op = "configure"
	OpClone     Op = "clone"
	OpReadFile  Op = "readFile"
	OpWriteFile Op = "writeFile"
	OpList      Op = "list"
	OpHealthy   Op = "healthy"
	OpSetMemory Op = "setMemory"
	OpTerminate Op = "terminate"
)

// Call is a call of a method.
type Call struct {
	Op    Op
	ID    string // of the workspace; the address for OpHealthy
	After bool   // its effect is there, the answer is not given yet
}

// Hook is called twice for each call of the runtime, before and after its
// effect. It may wait, which is a slow runtime, and its error is the
// runtime's: after the effect, that is an answer that got lost.
type Hook func(ctx context.Context, c Call) error

// Runtime is the stub, on a disk of its own: [Runtime.Storage]. It implements [agent.Runtime], [agent.Inventory],
// [agent.Observer], [agent.MemoryLimiter], [agent.Terminator], [agent.IDEHealth],
// [agent.Previews] and [agent.ImageSource]. An agent that restarts keeps its
// workspaces when it is given the same value, or one that was restored.
type Runtime struct {
	hook  Hook
	serve bool

	mu         sync.Mutex
	containers map[string]*container
	homes      map[string]map[string][]byte // files in home directories, by absolute path
	files      map[string]*files            // what workspaces have on the disk
	images     map[string]int64             // bytes, by digest
	size       int64                        // of the disk; 0 is [DiskSize]
	carries    string                       // digest of the carried image; "" is [Digest]
	servers    map[string]server
	shortages  int           // of the memory of all containers together
	kills      int           // of processes of all containers
	ended      chan struct{} // closed when a container ends, and made anew
}

// container is one container. Its fields are the snapshot's.
type container struct {
	Spec    agent.Container
	Running bool
	IDE     agent.IDEConfig
	Logs    []string

	Lives int               // how often it was started
	Kills agent.MemoryKills // of its present or last life

	Listening []agent.Listener
}

// Options say how a stub behaves. The zero value is a runtime that always
// works and opens no socket.
type Options struct {
	Hook  Hook
	Serve bool // a page for each running workspace, on its loopback port
}

// New returns an empty runtime.
func New(o Options) *Runtime {
	return &Runtime{
		hook: o.Hook, serve: o.Serve,
		containers: map[string]*container{}, homes: map[string]map[string][]byte{}, files: map[string]*files{}, images: map[string]int64{}, servers: map[string]server{},
		ended: make(chan struct{}),
	}
}

// do runs a method's effect between the two calls of the hook.
func (r *Runtime) do(ctx context.Context, op Op, id string, effect func() error) error {
	if err := r.call(ctx, Call{Op: op, ID: id}); err != nil {
		return err
	}
	r.mu.Lock()
	err := effect()
	r.mu.Unlock()
	if err != nil {
		return err
	}
	return r.call(ctx, Call{Op: op, ID: id, After: true})
}

func (r *Runtime) call(ctx context.Context, c Call) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", c.Op, err)
	}
	if r.hook == nil {
		return nil
	}
	return r.hook(ctx, c)
}

func (r *Runtime) find(id string) (*container, error) {
	if c := r.containers[id]; c != nil {
		return c, nil
	}
	return nil, agent.Errorf(agent.CodeNotFound, "Workspace %q has no container", id)
}

func (r *Runtime) findRunning(id string) (*container, error) {
	c, err := r.find(id)
	if err == nil && !c.Running {
		return nil, agent.Errorf(agent.CodeConflict, "Workspace %q does not run", c.Spec.Name)
	}
	return c, err
}

// Create implements [agent.Runtime].
func (r *Runtime) Create(ctx context.Context, c agent.Container) error {
	if !agent.ValidSlot(c.Slot) {
		return fmt.Errorf("create %s: there is no slot %d", c.ID, c.Slot)
	}
	return r.do(ctx, OpCreate, c.ID, func() error {
		if err := r.ensure(c); err != nil {
			return err
		}
		if r.homes[c.ID] == nil {
			r.homes[c.ID] = map[string][]byte{}
		}
		old := r.containers[c.ID]
		if old != nil {
			same := c
			same.Quota = old.Spec.Quota
			if old.Spec == same {
				return nil
			}
		}
		if old != nil {
			r.halt(old)
		}
		r.containers[c.ID] = &container{Spec: c}
		return nil
	})
}

// Start implements [agent.Runtime].
func (r *Runtime) Start(ctx context.Context, id string) error {
	return r.do(ctx, OpStart, id, func() error {
		c, err := r.find(id)
		if err != nil || c.Running {
			return err
		}
		for _, o := range r.containers {
			if o.Running && o.Spec.Port == c.Spec.Port {
				return fmt.Errorf("start %s: port %d is in use by %s", id, c.Spec.Port, o.Spec.ID)
			}
		}
		if f := r.files[id]; f != nil {
			f.Open = true
		}
		if err := r.listen(c); err != nil {
			return fmt.Errorf("start %s: %w", id, err)
		}
		c.Running = true
		c.Lives++
		c.Kills = agent.MemoryKills{Since: time.Unix(int64(c.Lives), 0).UTC()}
		c.Logs = append(c.Logs, fmt.Sprintf("%s serves on port %d", c.Spec.Name, c.Spec.Port))
		return nil
	})
}

// Stop implements [agent.Runtime]. It is always gentle.
func (r *Runtime) Stop(ctx context.Context, id string, _ time.Duration) error {
	return r.do(ctx, OpStop, id, func() error {
		c, err := r.find(id)
		if err != nil {
			return err
		}
		r.halt(c)
		return nil
	})
}

// Terminate implements [agent.Terminator]. The processes take notice of it only
// when they are stopped.
func (r *Runtime) Terminate(ctx context.Context, id string) error {
	return r.do(ctx, OpTerminate, id, func() error { return nil })
}

// halt ends a container's processes.
func (r *Runtime) halt(c *container) {
	if !c.Running {
		return
	}
	c.Running, c.Listening = false, nil
	c.Logs = append(c.Logs, c.Spec.Name+" ended")
	r.hangUp(c.Spec.ID)
	if f := r.files[c.Spec.ID]; f != nil {
		f.Open = false
	}
	close(r.ended)
	r.ended = make(chan struct{})
}

// Remove implements [agent.Runtime].
func (r *Runtime) Remove(ctx context.Context, id string) error {
	return r.do(ctx, OpRemove, id, func() error {
		if c := r.containers[id]; c != nil {
			r.halt(c)
		}
		delete(r.containers, id)
		delete(r.homes, id)
		delete(r.files, id)
		return nil
	})
}

// Status implements [agent.Runtime].
func (r *Runtime) Status(ctx context.Context, id string) (status agent.ContainerStatus, err error) {
	err = r.do(ctx, OpStatus, id, func() error {
		status = r.status(id)
		return nil
	})
	return status, err
}

func (r *Runtime) status(id string) agent.ContainerStatus {
	switch c := r.containers[id]; {
	case c == nil:
		return agent.ContainerNotFound
	case c.Running:
		return agent.ContainerRunning
	}
	return agent.ContainerStopped
}

// Address implements [agent.Runtime].
func (r *Runtime) Address(ctx context.Context, id string) (address string, err error) {
	err = r.do(ctx, OpAddress, id, func() error {
		c, err := r.find(id)
		if err == nil {
			address = addressOf(c.Spec)
		}
		return err
	})
	return address, err
}

func addressOf(c agent.Container) string { return fmt.Sprintf("127.0.0.1:%d", c.Port) }

// Preview implements [agent.Previews]: the page of the workspace stands in for
// all its applications.
func (r *Runtime) Preview(_ context.Context, id string, _ int) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.findRunning(id)
	if err != nil {
		return "", err
	}
	return addressOf(c.Spec), nil
}

// Listening implements [agent.Previews]: the IDE, and what [Runtime.Listen] said.
func (r *Runtime) Listening(_ context.Context, id string) ([]agent.Listener, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.findRunning(id)
	if err != nil {
		return nil, err
	}
	all := append(slices.Clone(c.Listening), agent.Listener{Port: agent.IDEPort, Program: "code-server", Addresses: []string{"0.0.0.0"}})
	slices.SortStableFunc(all, func(a, b agent.Listener) int { return a.Port - b.Port })
	return all, nil
}

// Forget implements [agent.Previews]: nothing is kept.
func (*Runtime) Forget(string) {}

// Listen says what listens in a workspace beside its IDE, until it stops.
func (r *Runtime) Listen(id string, all ...agent.Listener) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.findRunning(id)
	if err == nil {
		c.Listening = all
	}
	return err
}

// Configure implements [agent.Runtime].
func (r *Runtime) Configure(ctx context.Context, id string, ide agent.IDEConfig) error {
	return r.do(ctx, OpConfigure, id, func() error {
		c, err := r.findRunning(id)
		if err != nil {
			return err
		}
		c.IDE = ide
		home := r.homes[id]
		if err := inTheWay(home, resolve(configFile)); err != nil {
			return agent.Errorf(agent.CodeUnusableFile, "The IDE's configuration cannot be written: %v", err)
		}
		config := fmt.Appendf(nil, "bind-addr: 0.0.0.0:8080\nauth: none\ncert: false\nabs-proxy-base-path: /workspace/%s\n", ide.Name)
		if err := r.fits(id, int64(len(config)-len(home[resolve(configFile)]))); err != nil {
			return err
		}
		home[resolve(configFile)] = config
		delete(home, resolve(folderFile))
		if ide.Folder != "" {
			home[resolve(folderFile)] = []byte(ide.Folder + "\n")
		}
		return nil
	})
}

// The files that configure the IDE, by the contract of workspaces.
const (
	configFile = ".config/code-server/config.yaml"
	folderFile = ".config/code-server/workspace-folder"
)

// Clone implements [agent.Runtime]: the work tree has a README.md that names
// its origin, as real ones often do. Hosts below .invalid (RFC 2606) are not
// known to anybody.
func (r *Runtime) Clone(ctx context.Context, id string, c agent.Clone) error {
	return r.do(ctx, OpClone, id, func() error {
		if _, err := r.findRunning(id); err != nil {
			return err
		}
		home, marker := r.homes[id], path.Join(c.Folder, ".git/config")
		if _, done := home[marker]; done {
			return nil
		}
		if u, err := url.Parse(c.URL); err == nil && strings.HasSuffix(u.Hostname(), ".invalid") {
			return agent.Errorf(agent.CodeValidation, "The repository was not cloned: there is no host %s", u.Hostname())
		}
		for name := range home {
			if strings.HasPrefix(name, c.Folder+"/") {
				return agent.Errorf(agent.CodeConflict, "The folder %s is not empty: the repository was not cloned", c.Folder)
			}
		}
		home[marker] = fmt.Appendf(nil, "[remote \"origin\"]\n\turl = %s\n", c.URL)
		home[path.Join(c.Folder, "README.md")] = []byte("# " + c.URL + "\n")
		return nil
	})
}

// ReadFile implements [agent.Runtime].
func (r *Runtime) ReadFile(ctx context.Context, id, name string) (content []byte, err error) {
	err = r.do(ctx, OpReadFile, id, func() error {
		if _, err := r.find(id); err != nil {
			return err
		}
		b, ok := r.homes[id][resolve(name)]
		if !ok && inTheWay(r.homes[id], resolve(name)) != nil {
			return agent.Errorf(agent.CodeConflict, "%s in the workspace is not a file", name)
		}
		if !ok {
			return agent.Errorf(agent.CodeNotFound, "The workspace has no file %s", name)
		}
		content = slices.Clone(b)
		return nil
	})
	return content, err
}

// ReplaceFile implements [agent.FileReplacer]. To who watches, it is a write.
func (r *Runtime) ReplaceFile(ctx context.Context, id, name string, old agent.File, content []byte) (replaced bool, err error) {
	err = r.do(ctx, OpWriteFile, id, func() error {
		if _, err := r.findRunning(id); err != nil {
			return err
		}
		now := agent.File{}
		if b, ok := r.homes[id][resolve(name)]; ok {
			now = agent.FileOf(string(b))
		}
		if now != old {
			return nil
		}
		if err := r.write(id, name, content); err != nil {
			return err
		}
		replaced = true
		return nil
	})
	return replaced, err
}

// WriteFile implements [agent.Runtime].
func (r *Runtime) WriteFile(ctx context.Context, id, name string, content []byte) error {
	return r.do(ctx, OpWriteFile, id, func() error {
		if _, err := r.find(id); err != nil {
			return err
		}
		return r.write(id, name, content)
	})
}

// write lays a file into a home directory. The caller holds the lock.
func (r *Runtime) write(id, name string, content []byte) error {
	if len(content) > agent.MaxFileSize {
		return agent.Errorf(agent.CodeTooLarge, "The file %s is larger than %d bytes", name, agent.MaxFileSize)
	}
	if err := inTheWay(r.homes[id], resolve(name)); err != nil {
		return agent.Errorf(agent.CodeConflict, "The file %s cannot be written: %v", name, err)
	}
	if err := r.fits(id, int64(len(content)-len(r.homes[id][resolve(name)]))); err != nil {
		return err
	}
	r.homes[id][resolve(name)] = slices.Clone(content)
	return nil
}

// inTheWay says what hinders that there is a file of this name: a directory
// that has files in it, or a file where a directory has to be.
func inTheWay(home map[string][]byte, name string) error {
	for other := range home {
		if strings.HasPrefix(other, name+"/") {
			return fmt.Errorf("%s is a directory", name)
		}
		if strings.HasPrefix(name, other+"/") {
			return fmt.Errorf("%s is not a directory", other)
		}
	}
	return nil
}

func resolve(name string) string {
	if !path.IsAbs(name) {
		name = path.Join(agent.Home, name)
	}
	return path.Clean(name)
}

// List implements [agent.Inventory], sorted by id.
func (r *Runtime) List(ctx context.Context) (refs []agent.ContainerRef, err error) {
	err = r.do(ctx, OpList, "", func() error {
		all := map[string]agent.ContainerRef{}
		for id := range r.homes {
			all[id] = agent.ContainerRef{ID: id, Slot: -1, Status: agent.ContainerNotFound, HasHome: true}
		}
		for id, c := range r.containers {
			all[id] = agent.ContainerRef{ID: id, Name: c.Spec.Name, Slot: c.Spec.Slot, Status: r.status(id), HasHome: r.homes[id] != nil}
		}
		for _, id := range slices.Sorted(maps.Keys(all)) {
			refs = append(refs, all[id])
		}
		return nil
	})
	return refs, err
}

// usedMemory is what each running container uses, in bytes.
const usedMemory = 256 << 20

// Usage implements [agent.Observer] with numbers that never change.
func (r *Runtime) Usage(_ context.Context, id string) (agent.Usage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.findRunning(id)
	if err != nil {
		return agent.Usage{}, err
	}
	return agent.Usage{CPU: 0.25, Memory: usedMemory, MemoryLimit: cmp.Or(c.Spec.Memory, agent.DefaultMemory), Pids: 12}, nil
}

// SharedMemory is what the stub says that all workspaces have together.
const SharedMemory = 8 << 30

// SetMemory implements [agent.MemoryLimiter]: it holds at once.
func (r *Runtime) SetMemory(ctx context.Context, id string, limit int64) error {
	return r.do(ctx, OpSetMemory, id, func() error {
		c := r.containers[id]
		if c != nil && c.Running {
			c.Spec.Memory = limit
		}
		return nil
	})
}

// SharedMemory implements [agent.MemoryLimiter].
func (r *Runtime) SharedMemory(context.Context) (agent.SharedMemory, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := agent.SharedMemory{Limit: SharedMemory, Shortages: r.shortages, Kills: r.kills}
	for _, c := range r.containers {
		if c.Running {
			s.Used += usedMemory
		}
	}
	return s, nil
}

// MemoryKills implements [agent.Observer].
func (r *Runtime) MemoryKills(_ context.Context, id string) (agent.MemoryKills, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.find(id)
	if err != nil {
		return agent.MemoryKills{}, err
	}
	k := c.Kills
	if !c.Running { // the counters went with the container's group
		k.Processes, k.Own = 0, 0
	}
	return k, nil
}

// Outlive ends a container for a reason of its own, after the kernel had ended a
// process of it: which of both it was, a runtime cannot tell.
func (r *Runtime) Outlive(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		c.Kills.Whole, c.Kills.Ended = c.Kills.Processes > 0, time.Now()
		r.halt(c)
	}
}

// Starvation is what the kernel ended because memory was used up.
type Starvation struct {
	Whole  bool // the container, not only a process of it
	Unseen bool // with Whole: the runtime does not say why, only that it was killed
	Shared bool // the memory of all containers was used up, not that of one
}

// Starve ends a process of a container that runs, or all of it, as the kernel
// does, behind everybody's back.
func (r *Runtime) Starve(id string, s Starvation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil || !c.Running {
		return
	}
	c.Kills.Processes++
	r.kills++
	if s.Shared {
		r.shortages++
	} else {
		c.Kills.Own++
	}
	if s.Whole {
		c.Kills.Whole, c.Kills.Killed, c.Kills.Ended = !s.Unseen, true, time.Now()
		r.halt(c)
	}
}

// Murder ends a container as "kill -9" of what its first process waits for does.
func (r *Runtime) Murder(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		c.Kills.Killed, c.Kills.Ended = true, time.Now()
		r.halt(c)
	}
}

// Logs implements [agent.Observer]. Following ends with ctx.
func (r *Runtime) Logs(ctx context.Context, id string, tail int, follow bool, w io.Writer) error {
	r.mu.Lock()
	c, err := r.find(id)
	var lines []string
	if err == nil {
		lines = slices.Clone(c.Logs[max(0, len(c.Logs)-tail):])
	}
	follow = follow && err == nil && c.Running
	r.mu.Unlock()
	if err != nil {
		return err
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return fmt.Errorf("copy logs: %w", err)
		}
	}
	if follow {
		<-ctx.Done()
	}
	return nil
}

// Wait implements [agent.Observer].
func (r *Runtime) Wait(ctx context.Context, id string) error {
	r.mu.Lock()
	c, err := r.find(id)
	for err == nil && c.Running && ctx.Err() == nil {
		ended := r.ended
		r.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
		}
		r.mu.Lock()
	}
	r.mu.Unlock()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("wait for %s: %w", id, err)
	}
	return nil
}

// Healthy implements [agent.IDEHealth]: a running, configured workspace is.
func (r *Runtime) Healthy(ctx context.Context, address string) error {
	return r.do(ctx, OpHealthy, address, func() error {
		for _, c := range r.containers {
			if c.Running && addressOf(c.Spec) == address && c.IDE.Name != "" {
				return nil
			}
		}
		return fmt.Errorf("nothing answers at %s", address)
	})
}

// Kill ends a container as a crash does, behind everybody's back.
func (r *Runtime) Kill(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		r.halt(c)
	}
}

// DeleteFile deletes a file as its user does, behind everybody's back.
func (r *Runtime) DeleteFile(id, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.homes[id], resolve(name))
}

// snapshot is a runtime as it is written down.
type snapshot struct {
	Containers map[string]*container
	Homes      map[string]map[string][]byte
	Files      map[string]*files
	Images     map[string]int64
	Size       int64
	Carries    string
}

// Snapshot returns the runtime's state, for [Runtime.Restore].
func (r *Runtime) Snapshot() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := json.Marshal(snapshot{Containers: r.containers, Homes: r.homes, Files: r.files, Images: r.images, Size: r.size, Carries: r.carries})
	if err != nil {
		return nil, fmt.Errorf("write snapshot: %w", err)
	}
	return b, nil
}

// Restore replaces the runtime's state by that of a snapshot. Nothing is
// served for containers that ran then.
func (r *Runtime) Restore(b []byte) error {
	var s snapshot
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.containers, r.homes, r.files, r.images = s.Containers, s.Homes, s.Files, s.Images
	r.size, r.carries = s.Size, s.Carries
	return nil
}
