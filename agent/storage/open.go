package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// closePatience is how long a process that is just ending may hold what is being
// closed, threadPatience how long a thread may, and closeRetry how often is looked.
const (
	closePatience  = 10 * time.Second
	threadPatience = time.Second
	closeRetry     = 50 * time.Millisecond
)

// place is where a part of a workspace's files is shown.
func (p *Pool) place(id, part string) string { return filepath.Join(p.Dir, openMount, id, part) }

// The parts of what is shown.
const (
	rootPlace = "root"
	homePlace = "home"
)

// view is what Open returns.
func (p *Pool) view(id string) agent.FilesView {
	return agent.FilesView{Root: p.place(id, rootPlace), Home: p.place(id, homePlace)}
}

// overlays are the mounts of a workspace.
func (p *Pool) overlays(id, digest, image string) []overlay {
	part := func(name string) (upper, work string) {
		return p.path(filesDir, id, name, upperDir), p.path(filesDir, id, name, workDir)
	}
	root := overlay{lower: image, lowerMapped: true, target: p.place(id, rootPlace)}
	root.upper, root.work = part(layerName(digest))
	// The home directory has nothing below it. It is an overlay all the same:
	// through one, no request of btrfs reaches the pool, by which the workspace
	// would make subvolumes that its quota does not count.
	home := overlay{lower: p.path(emptyDir), target: p.place(id, homePlace)}
	home.upper, home.work = part(homeDir)
	return []overlay{root, home}
}

// isOpen reports whether anything of a workspace is shown.
func (p *Pool) isOpen(id string) (bool, error) {
	for _, part := range []string{rootPlace, homePlace} {
		if mounted, err := isMountPoint(p.place(id, part)); err != nil || mounted {
			return mounted, err
		}
	}
	return false, nil
}

// ensureShown mounts what is not mounted yet.
func (p *Pool) ensureShown(ctx context.Context, f agent.Files) (agent.FilesView, error) {
	first, err := p.firstID(f.Slot)
	if err != nil {
		return agent.FilesView{}, err
	}
	image, err := p.image(f.Image)
	if err != nil {
		return agent.FilesView{}, err
	}
	if err := ensureDir(filepath.Dir(p.place(f.ID, rootPlace)), 0o711); err != nil {
		return agent.FilesView{}, err
	}

	for _, o := range p.overlays(f.ID, f.Image, image) {
		mounted, err := isMountPoint(o.target)
		if err != nil {
			return agent.FilesView{}, err
		}
		if mounted {
			continue
		}
		if err := p.showPart(ctx, f, o, first); err != nil {
			return agent.FilesView{}, err
		}
		p.done()
	}

	view := p.view(f.ID)
	err = complete(view.Root, first)
	if errors.Is(err, unix.EDQUOT) {
		err = p.withRoom(f, func() error { return complete(view.Root, first) })
	}
	return view, err
}

// showPart mounts one overlay, unless another mount of it is left anywhere: two on
// one upper directory damage it.
func (p *Pool) showPart(ctx context.Context, f agent.Files, o overlay, first int) error {
	if err := os.MkdirAll(o.target, 0o711); err != nil {
		return err
	}
	if err := p.awaitHolders(ctx, o.upper); err != nil {
		return err
	}
	return p.withRoom(f, func() error {
		if err := show(o, first, p.Account); err != nil {
			return err
		}
		return needWritable(o.target)
	})
}

// needWritable ends a mount that is read-only: the kernel makes it so where it finds
// no room for a directory of its own.
func needWritable(target string) error {
	var mount unix.Statfs_t
	if err := unix.Statfs(target, &mount); err != nil {
		return fmt.Errorf("look at %s: %w", target, err)
	}
	if mount.Flags&unix.MS_RDONLY == 0 { // as ST_RDONLY is
		return nil
	}
	return errors.Join(fmt.Errorf("no room to show %s: %w", target, unix.ENOSPC), unix.Unmount(target, unix.UMOUNT_NOFOLLOW))
}

// openRoom is what opening may need of files that may have used their quota up, in
// bytes: the kernel's directories, and what is written in whole blocks.
const openRoom = 16 << 20

// withRoom does what needs a little room, in files that may hold more than their
// quota, too.
func (p *Pool) withRoom(f agent.Files, do func() error) error {
	used, _, err := p.usage(f.ID)
	if err != nil {
		return err
	}
	if err := p.limit(f.ID, max(used, f.Quota)+openRoom); err != nil {
		return err
	}
	return errors.Join(do(), p.limit(f.ID, f.Quota))
}

// Close implements [agent.Storage].
func (p *Pool) Close(ctx context.Context, id string) error {
	if !agent.ValidID(id) {
		return agent.Errorf(agent.CodeValidation, "%q is not the id of a workspace", id)
	}
	unlock, err := p.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()

	places := filepath.Dir(p.place(id, rootPlace))
	if _, err := os.Lstat(places); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	r, err := p.readRecord(id)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // of what was opened in vain
		return fmt.Errorf("close the files of the workspace %s: %w", id, err)
	}
	for _, part := range []struct{ place, dir string }{{homePlace, homeDir}, {rootPlace, layerName(r.Image)}} {
		if err := p.closePart(ctx, p.place(id, part.place), p.path(filesDir, id, part.dir, upperDir)); err != nil {
			return fmt.Errorf("close the files of the workspace %s: %w", id, err)
		}
		p.done()
	}
	if err := p.removePlaces(id); err != nil {
		return fmt.Errorf("close the files of the workspace %s: %w", id, err)
	}
	return nil
}

// removePlaces removes the places where a workspace's files were shown.
func (p *Pool) removePlaces(id string) error {
	root := p.place(id, rootPlace)
	for _, dir := range []string{root, p.place(id, homePlace), filepath.Dir(root)} {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// closePart unmounts one overlay everywhere and waits until nobody has it any more.
func (p *Pool) closePart(ctx context.Context, target, upper string) error {
	mounted, err := isMountPoint(target)
	if err != nil {
		return err
	}
	if mounted {
		if err := await(ctx, closePatience, func() (processes, error) { return users(target) }); err != nil {
			return err
		}
		// Nobody uses it, so what is left are mere mounts in other namespaces:
		// there it goes away with this one, or with the namespace.
		if err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", target, err)
		}
	}
	return p.awaitHolders(ctx, upper)
}

// awaitHolders waits until no mount namespace has the overlay of an upper
// directory any more. A thread of Podman's that was in a container's is just
// ending, or is parked there.
func (p *Pool) awaitHolders(ctx context.Context, upper string) error {
	look := func() (processes, error) { return holders(upper) }
	if err := await(ctx, threadPatience, look); agent.ErrorCode(err) != agent.CodeConflict {
		return err
	}
	if err := p.endParked(upper); err != nil {
		return err
	}
	return await(ctx, closePatience, look)
}

// await looks until there is nobody, and says who it is when the time is over.
func await(ctx context.Context, patience time.Duration, look func() (processes, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(closeRetry)
	defer tick.Stop()
	for {
		found, err := look()
		if err != nil || len(found) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return agent.Errorf(agent.CodeConflict, "The files are in use by %s", found)
		case <-tick.C:
		}
	}
}
