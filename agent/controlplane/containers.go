package controlplane

import (
	"context"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// Containers is the runtime for callers beside the control plane, such as the
// runtime API. Of an id that belongs to a workspace they may read; all else is
// a [agent.CodeConflict], because the workspace's jobs would undo it, or be
// undone. What is done to an id is done one after the other, and after a
// shutdown nothing is: that is a [agent.CodeUnavailable].
func (c *ControlPlane) Containers() agent.Runtime { return foreign{c, c.cfg.Runtime} }

// foreign implements [agent.Runtime] for ids without a workspace. The reading
// methods are those of the runtime.
type foreign struct {
	c *ControlPlane
	agent.Runtime
}

// change does what a caller asks for, unless the id is a workspace's, or the VM
// was asked to shut down.
func (f foreign) change(ctx context.Context, id string, do func() error) error {
	release, err := f.c.locks.acquire(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	if err := f.c.Accepting(); err != nil {
		return err
	}
	rec, err := f.c.record(ctx, id)
	switch {
	case err == nil:
		return agent.Errorf(agent.CodeConflict, "The container belongs to workspace %q: start, stop or delete the workspace instead", rec.Name)
	case agent.ErrorCode(err) != agent.CodeNotFound:
		return err
	}
	return do()
}

// Create implements [agent.Runtime].
func (f foreign) Create(ctx context.Context, n agent.Container) error {
	return f.change(ctx, n.ID, func() error {
		if n.Quota == 0 {
			n.Quota = f.c.capacity(ctx).Defaults().Disk
		}
		return f.Runtime.Create(ctx, n)
	})
}

// Start implements [agent.Runtime].
func (f foreign) Start(ctx context.Context, id string) error {
	return f.change(ctx, id, func() error { return f.Runtime.Start(ctx, id) })
}

// Stop implements [agent.Runtime].
func (f foreign) Stop(ctx context.Context, id string, grace time.Duration) error {
	return f.change(ctx, id, func() error { return f.Runtime.Stop(ctx, id, grace) })
}

// Remove implements [agent.Runtime].
func (f foreign) Remove(ctx context.Context, id string) error {
	return f.change(ctx, id, func() error { return f.Runtime.Remove(ctx, id) })
}

// Configure implements [agent.Runtime].
func (f foreign) Configure(ctx context.Context, id string, ide agent.IDEConfig) error {
	return f.change(ctx, id, func() error { return f.Runtime.Configure(ctx, id, ide) })
}

// Clone implements [agent.Runtime].
func (f foreign) Clone(ctx context.Context, id string, n agent.Clone) error {
	return f.change(ctx, id, func() error { return f.Runtime.Clone(ctx, id, n) })
}

// WriteFile implements [agent.Runtime].
func (f foreign) WriteFile(ctx context.Context, id, path string, content []byte) error {
	return f.change(ctx, id, func() error { return f.Runtime.WriteFile(ctx, id, path, content) })
}

// idLocks are locks by id of a workspace. One that nobody wants costs nothing.
type idLocks struct {
	mu   sync.Mutex
	byID map[string]*idLock
}

type idLock struct {
	held    chan struct{}
	wanting int // holders and those who wait
}

// acquire waits for the lock of an id, at most until ctx ends.
func (l *idLocks) acquire(ctx context.Context, id string) (release func(), err error) {
	l.mu.Lock()
	if l.byID == nil {
		l.byID = map[string]*idLock{}
	}
	lock := l.byID[id]
	if lock == nil {
		lock = &idLock{held: make(chan struct{}, 1)}
		l.byID[id] = lock
	}
	lock.wanting++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if lock.wanting--; lock.wanting == 0 {
			delete(l.byID, id)
		}
	}
	select {
	case lock.held <- struct{}{}:
		return func() { <-lock.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}
