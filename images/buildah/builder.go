// Package buildah builds the workspace image in process with Buildah's
// library, without a daemon. A [Builder] owns its storage directory, where
// layers are kept between builds; deleting it costs time only. It must run as root of a user namespace or as root, in
// a process that called [Reexec] first. It imports images and none of the
// packages beside it.
package buildah

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containers/buildah"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/unshare"

	"github.com/rockpool/rootvm/images"
)

// Reexec must be the first call of main, before any goroutine. It returns true
// in the helper processes that Buildah starts from this program, and then main
// must return. An ordinary user's process goes on in a user namespace.
func Reexec() bool {
	if buildah.InitReexec() {
		return true
	}
	unshare.MaybeReexecUsingUserNamespace(false)
	return false
}

// Builder makes images. It is for one build at a time.
type Builder struct {
	Out io.Writer        // progress for people
	Now func() time.Time // time.Now in production
}

// Build makes the images that the request asks for, one for each platform, and
// writes them as an OCI layout to r.Layout, which is replaced. On error, and
// when ctx ends, what was finished stays in the storage and r.Layout is as it
// was.
func (b *Builder) Build(ctx context.Context, r images.Request) (images.Result, error) {
	var result images.Result
	if err := r.Spec.Validate(); err != nil {
		return result, err
	}
	s, err := open(r.Storage, r.Scratch)
	if err != nil {
		return result, explain(err)
	}

	before, err := s.Images()
	if err != nil {
		return result, errors.Join(fmt.Errorf("list the images: %w", err), s.close())
	}
	out := &progress{out: b.Out, now: b.Now, start: b.Now(), used: map[string]bool{}}

	built := make(map[string]string, len(r.Spec.Platforms))
	for _, platform := range r.Spec.Platforms {
		if built[platform], err = s.build(ctx, r, platform, out); err != nil {
			break
		}
	}
	if err == nil {
		err = s.export(ctx, r, built, out)
	}
	if err == nil {
		err = s.prune(r.Spec, before, out.used)
	}

	if ctx.Err() != nil {
		err = fmt.Errorf("interrupted: %w: the layers that were finished are kept", context.Cause(ctx))
	}
	if closeErr := s.close(); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	result.Steps, result.Cached = out.steps, out.cached
	return result, explain(err)
}

// explain adds what to do to errors whose own words do not say it.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), "no space left on device"):
		return fmt.Errorf("the disk is full: free some space, or set ROCKPOOL_CACHE to a directory elsewhere: %w", err)
	}
	return err
}

// store is the storage of layers, opened for one build.
type store struct {
	storage.Store
	run string // files of this process only
}

// open opens the storage in dir and removes what a killed build left in it and
// in run: whoever holds the storage now is the only one. What the storage notes
// of mounts is kept for this process only: they end with it, or with its mount
// namespace.
func open(dir, run string) (*store, error) {
	if err := errors.Join(os.RemoveAll(run), os.MkdirAll(run, 0o700), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, fmt.Errorf("open the storage of layers: %w", err)
	}
	s, err := storage.GetStore(storage.StoreOptions{
		RunRoot:             filepath.Join(run, "storage"),
		GraphRoot:           dir,
		GraphDriverPriority: []string{"overlay", "vfs"},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the storage of layers %s: %w", dir, err), os.RemoveAll(run))
	}
	st := &store{s, run}
	if err := st.removeContainers(); err != nil {
		return nil, errors.Join(err, st.close())
	}
	return st, nil
}

// removeContainers removes every working container.
func (s *store) removeContainers() error {
	containers, err := s.Containers()
	if err != nil {
		return fmt.Errorf("list working containers: %w", err)
	}
	for _, c := range containers {
		if err := s.DeleteContainer(c.ID); err != nil {
			return fmt.Errorf("remove the working container %s of a former build: %w", c.ID, err)
		}
	}
	return nil
}

// close gives the storage back.
func (s *store) close() error {
	_, err := s.Shutdown(true)
	return errors.Join(err, os.RemoveAll(s.run))
}
