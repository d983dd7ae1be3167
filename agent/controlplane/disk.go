package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

const (
	// diskAge is how long a look at the disk is taken as true: pages are looked
	// at every few seconds, and each look costs root's side a process.
	diskAge = 5 * time.Second
	// diskLook bounds one look, and diskPatience how long a page waits for it
	// before it is shown with what was seen before. A disk that is full, or at
	// work, may be slow.
	diskLook     = 30 * time.Second
	diskPatience = time.Second
)

// diskView is the disk for workspaces as it was looked at last.
type diskView struct {
	mu      sync.Mutex
	usage   agent.StorageUsage
	at      time.Time     // of usage; zero before the first look that succeeded
	err     error         // why the last look failed
	stale   bool          // something was changed since that the next look has to see
	tried   time.Time     // when the last look ended
	looking chan struct{} // closed when the look under way is over; nil without one
}

// lookAtDisk returns what is known of the disk, at most [diskAge] old unless it
// does not answer. The error is that nothing was ever seen of it.
func (c *ControlPlane) lookAtDisk(ctx context.Context) (agent.StorageUsage, time.Time, error) {
	patience, cancel := context.WithTimeout(ctx, diskPatience)
	defer cancel()
	d := &c.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	for patience.Err() == nil && !d.fresh(c.now()) {
		c.beginLook(ctx)
		look := d.looking
		d.mu.Unlock()
		select {
		case <-look:
		case <-patience.Done():
		}
		d.mu.Lock()
	}

	switch {
	case !d.at.IsZero():
		return d.usage, d.at, nil
	case d.err != nil:
		return agent.StorageUsage{}, time.Time{}, d.err
	}
	return agent.StorageUsage{}, time.Time{}, agent.Errorf(agent.CodeUnavailable, "The disk for workspaces does not answer yet. It will be asked again.")
}

// beginLook looks at the disk for all who wait for it, unless that is under way.
// It goes on when ctx ends, for the next one who asks. The caller holds the lock.
func (c *ControlPlane) beginLook(ctx context.Context) {
	d := &c.disk
	if d.looking != nil {
		return
	}
	done := make(chan struct{})
	d.looking, d.stale = done, false
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), diskLook)
	go func() {
		defer cancel()
		usage, err := c.cfg.Storage.Usage(ctx)
		d.mu.Lock()
		defer d.mu.Unlock()
		if err != nil && d.err == nil {
			c.cfg.Log.Warn("who takes what of the disk for workspaces is not known", "err", err)
		}
		d.err, d.tried, d.looking = err, c.now(), nil
		if err == nil {
			d.usage, d.at = usage, d.tried
		}
		close(done)
	}()
}

// fresh tells whether what was seen last is taken as true. The caller holds the
// lock.
func (d *diskView) fresh(now time.Time) bool {
	return !d.stale && !d.tried.IsZero() && now.Sub(d.tried).Abs() < diskAge
}

// changed has the next look see what was changed.
func (d *diskView) changed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stale = true
}

// filesOf is what is known of the files of a workspace; ok is false when there
// are none, and when that is not known.
func (c *ControlPlane) filesOf(ctx context.Context, id string) (f agent.FilesUsage, ok bool) {
	usage, _, err := c.lookAtDisk(ctx)
	if err != nil {
		return f, false
	}
	i := slices.IndexFunc(usage.Files, func(f agent.FilesUsage) bool { return f.ID == id })
	if i < 0 {
		return f, false
	}
	return usage.Files[i], true
}

// whoseSpace says of a fault for want of space whether the workspace's own part
// of the disk is used up: its owner can mend that, and it concerns no other.
func (c *ControlPlane) whoseSpace(ctx context.Context, id string, fault error) error {
	if agent.ErrorCode(fault) != agent.CodeNoSpace {
		return fault
	}
	c.disk.changed()
	f, ok := c.filesOf(ctx, id)
	if !ok || agent.FillOf(f.Used, f.Quota) < agent.DiskFull {
		return fault
	}
	return fmt.Errorf("%w (%w)", agent.Errorf(agent.CodeNoSpace, "The workspace's files take all of the %s that they may. Set a larger limit of the disk, or delete files in it.", agent.Size(f.Quota)), fault)
}

// Disk implements [agent.Workspaces].
func (c *ControlPlane) Disk(ctx context.Context) (agent.DiskState, error) {
	usage, at, err := c.lookAtDisk(ctx)
	if err != nil {
		return agent.DiskState{}, err
	}
	recs, err := c.records(ctx)
	if err != nil {
		return agent.DiskState{}, err
	}
	return shareDisk(usage, at, recs, c.capacity(ctx)), nil
}

// shareDisk says who takes what of a disk. A workspace without files takes
// nothing, and has its place all the same.
func shareDisk(usage agent.StorageUsage, at time.Time, recs map[string]agent.Record, capacity agent.Capacity) agent.DiskState {
	d := agent.DiskState{Size: usage.Size, Free: usage.Free, Images: slices.Clone(usage.Images), At: at}
	used := map[string]int64{}
	for _, f := range usage.Files {
		used[f.ID] = f.Used
		if _, known := recs[f.ID]; !known {
			d.Orphans = append(d.Orphans, agent.DiskShare{ID: f.ID, Used: f.Used, Limit: f.Quota})
		}
	}
	for id, rec := range recs {
		d.Workspaces = append(d.Workspaces, agent.DiskShare{ID: id, Name: rec.Name, Used: used[id], Limit: capacity.Of(rec.Limits).Disk})
	}

	most := func(a, b agent.DiskShare) int {
		return cmp.Or(cmp.Compare(b.Used, a.Used), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	}
	slices.SortFunc(d.Workspaces, most)
	slices.SortFunc(d.Orphans, most)
	slices.SortFunc(d.Images, func(a, b agent.ImageUsage) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Digest, b.Digest))
	})
	d.Rest = max(0, d.Size-d.Free-d.FilesSize()-d.ImagesSize())
	return d
}

// listFiles looks at the disk now, and returns the files on it as references to
// what the runtime holds. What is cached would show files that are gone.
func (c *ControlPlane) listFiles(ctx context.Context) (refs []agent.ContainerRef, err error) {
	ctx, cancel := context.WithTimeout(ctx, diskLook)
	defer cancel()
	usage, err := c.cfg.Storage.Usage(ctx)
	if err != nil {
		return nil, fmt.Errorf("list files of workspaces: %w", err)
	}
	for _, f := range usage.Files {
		refs = append(refs, agent.ContainerRef{ID: f.ID, Slot: f.Slot, Status: agent.ContainerNotFound, HasHome: true})
	}
	return refs, nil
}

// withFiles adds files to what the runtime holds: those of which there is no
// container.
func withFiles(refs, files []agent.ContainerRef) []agent.ContainerRef {
	all := slices.Clone(refs)
	for _, f := range files {
		i := slices.IndexFunc(all, func(ref agent.ContainerRef) bool { return ref.ID == f.ID })
		if i < 0 {
			all = append(all, f)
			continue
		}
		all[i].HasHome = true
		if all[i].Slot < 0 {
			all[i].Slot = f.Slot
		}
	}
	return all
}
