//go:build remote

package podman

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containers/podman/v5/pkg/bindings/containers"

	"github.com/rockpool/rootvm/agent"
)

// turns are locks by workspace: who opens its files, or closes them, has its
// container for itself. One that nobody wants costs nothing.
type turns struct {
	mu   sync.Mutex
	byID map[string]*turn
}

type turn struct {
	held    chan struct{}
	wanting int // holders and those who wait
}

// take waits for the turn of a workspace, at most until ctx ends.
func (t *turns) take(ctx context.Context, id string) (release func(), err error) {
	w, leave := t.want(id)
	select {
	case w.held <- struct{}{}:
		return func() { <-w.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

// tryTake takes the turn of a workspace unless somebody has it.
func (t *turns) tryTake(id string) (release func(), ok bool) {
	w, leave := t.want(id)
	select {
	case w.held <- struct{}{}:
		return func() { <-w.held; leave() }, true
	default:
		leave()
		return nil, false
	}
}

func (t *turns) want(id string) (w *turn, leave func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID == nil {
		t.byID = map[string]*turn{}
	}
	w = t.byID[id]
	if w == nil {
		w = &turn{held: make(chan struct{}, 1)}
		t.byID[id] = w
	}
	w.wanting++
	return w, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if w.wanting--; w.wanting == 0 {
			delete(t.byID, id)
		}
	}
}

// open shows the files that a workspace has. The caller has its turn.
func (e *Engine) open(ctx context.Context, id string) error {
	u, err := e.Storage.Usage(ctx)
	if err != nil {
		return err
	}
	n := indexOf(u.Files, id)
	if n < 0 {
		return agent.Errorf(agent.CodeNotFound, "The workspace's files are not there")
	}
	_, err = e.Storage.Open(ctx, u.Files[n].Files, agent.Progress(ctx))
	return err
}

// close ends what is shown of a workspace whose container has ended. What cannot
// be closed now does not keep the workspace from being stopped: [Engine.Tidy]
// closes it. The caller has the workspace's turn.
func (e *Engine) close(ctx context.Context, id string) {
	if err := e.Storage.Close(ctx, id); err != nil {
		e.Log.Warn("a workspace's files are shown for longer than it runs", "workspace", id, "err", err)
	}
}

// whileShown does what needs the files of a container. Those of one that does
// not run are shown for as long as it takes.
func (e *Engine) whileShown(ctx context.Context, id string, do func() error) error {
	runs, err := e.runs(ctx, id)
	if err != nil {
		return err
	}
	if runs {
		return do()
	}

	release, err := e.turns.take(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	if runs, err = e.runs(ctx, id); err != nil {
		return err
	}
	if !runs {
		if err := e.open(ctx, id); err != nil {
			return err
		}
		defer e.close(context.WithoutCancel(ctx), id)
	}
	return do()
}

// runs reports whether a workspace's container, which must be there, runs.
func (e *Engine) runs(ctx context.Context, id string) (runs bool, err error) {
	err = e.call(ctx, "look", func(ctx context.Context) error {
		c, err := inspect(ctx, id)
		if err == nil {
			runs = status(c.State.Status, c.State.Pid) == agent.ContainerRunning
		}
		return err
	})
	return runs, err
}

// closeEnded closes the files of a workspace unless its container runs. One that
// is not there does not.
func (e *Engine) closeEnded(ctx context.Context, id string) {
	runs, err := e.runs(ctx, id)
	switch {
	case err != nil && !isNotFound(err):
		e.Log.Debug("whether a workspace's files are needed is not known", "workspace", id, "err", err)
	case !runs:
		e.close(ctx, id)
	}
}

// Tidy implements [agent.Tidier].
func (e *Engine) Tidy(ctx context.Context) error {
	u, err := e.Storage.Usage(ctx)
	if err != nil {
		return err
	}
	for _, f := range u.Files {
		if !f.Open {
			continue
		}
		if release, ok := e.turns.tryTake(f.ID); ok {
			e.closeEnded(ctx, f.ID)
			release()
		}
	}
	return errors.Join(e.keepCarried(ctx, u), e.dropImages(ctx))
}

// keepCarried has the image that the VM carries in the storage when files belong to
// it: the next VM's image may carry another.
func (e *Engine) keepCarried(ctx context.Context, u agent.StorageUsage) error {
	carried, err := e.Carried.read()
	if err != nil {
		return nil // then no files belong to it
	}
	needed := slices.ContainsFunc(u.Files, func(f agent.FilesUsage) bool { return f.Image == carried.Digest })
	kept := slices.ContainsFunc(u.Images, func(i agent.ImageUsage) bool { return i.Digest == carried.Digest })
	if !needed || kept {
		return nil
	}
	return e.Storage.KeepImage(ctx)
}

// dropImages removes images, and what is known of them, that no files need. The
// image that the VM carries, once it is kept, stays: the next workspace needs it.
// While a workspace is made from an image, none is removed.
func (e *Engine) dropImages(ctx context.Context) error {
	if !e.making.TryLock() {
		return nil
	}
	defer e.making.Unlock()
	known, err := e.Catalog.all()
	if err != nil {
		return err
	}
	u, err := e.Storage.Usage(ctx)
	if err != nil {
		return err
	}
	carried, _ := e.Carried.read() // without one, none is kept for its sake
	needed := func(digest string) bool {
		return digest == carried.Digest || slices.ContainsFunc(u.Files, func(f agent.FilesUsage) bool { return f.Image == digest })
	}

	var errs []error
	for _, i := range u.Images {
		if needed(i.Digest) {
			continue
		}
		if err := e.Storage.RemoveImage(ctx, i.Digest); err != nil && agent.ErrorCode(err) != agent.CodeConflict {
			errs = append(errs, err)
			continue
		}
		e.Log.Info("an image that no workspace needs was removed", "image", i.Digest)
	}
	for _, i := range known {
		if !needed(i.Digest) {
			errs = append(errs, e.Catalog.forget(i.Digest))
		}
	}
	if !e.swept {
		errs = append(errs, e.call(ctx, "sweep", sweepUnpacking))
		e.swept = errors.Join(errs...) == nil
	}
	return errors.Join(errs...)
}

// sweepUnpacking removes containers of which an image was being unpacked when the
// agent was killed.
func sweepUnpacking(ctx context.Context) error {
	left := map[string][]string{"label": {labelUnpack}}
	cs, err := containers.List(ctx, new(containers.ListOptions).WithAll(true).WithFilters(left))
	if err != nil {
		return err
	}
	for _, c := range cs {
		if len(c.Names) == 0 || !strings.HasPrefix(c.Names[0], unpackName) {
			continue
		}
		if err := removeByName(ctx, c.Names[0]); err != nil {
			return fmt.Errorf("remove %s: %w", c.Names[0], err)
		}
	}
	return nil
}
