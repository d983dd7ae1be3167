package stub

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/rockpool/rootvm/agent"
)

// The methods of the storage, as [Hook] sees them. Open, Close and Remove are
// called by the runtime, too, and then the hook sees the runtime's call alone.
const (
	OpOpen        Op = "open"
	OpClose       Op = "close"
	OpRemoveFiles Op = "removeFiles"
	OpSetQuota    Op = "setQuota"
	OpDiskUsage   Op = "diskUsage"
	OpAddImage    Op = "addImage"
	OpRemoveImage Op = "removeImage"
	OpChangeImage Op = "changeImage"
	OpKeepImage   Op = "keepImage"
	OpPackages    Op = "packages"
)

// DiskSize is how large the stub says that the disk for workspaces is, in bytes,
// until [Runtime.ResizeDisk].
const DiskSize = 40_000_000_000

// Digest is that of the image that the stub's VM carries, until [Runtime.Carry].
const Digest = "sha256:5747562537b0c8b8a4b1d0f0c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"

// files are what a workspace has on the stub's disk. Its fields are the
// snapshot's.
type files struct {
	agent.Files
	Extra int64 // bytes, beside those of the files in its home directory
	Open  bool

	Packages []string // installed in its own layer
}

// storage is the disk of a [Runtime].
type storage struct{ r *Runtime }

// Storage is the disk on which the runtime's workspaces have their files.
func (r *Runtime) Storage() agent.Storage { return storage{r} }

// used is what a workspace's files take. The caller holds the lock.
func (r *Runtime) used(id string) (n int64) {
	if f := r.files[id]; f != nil {
		n = f.Extra
	}
	for _, content := range r.homes[id] {
		n += int64(len(content))
	}
	return n
}

// free is what nothing takes of the disk. The caller holds the lock.
func (r *Runtime) free() int64 {
	n := cmp.Or(r.size, DiskSize)
	for id := range r.files {
		n -= r.used(id)
	}
	for _, size := range r.images {
		n -= size
	}
	return max(0, n)
}

// fits is the fault of a workspace that writes so many bytes more. The caller
// holds the lock.
func (r *Runtime) fits(id string, more int64) error {
	if more <= 0 {
		return nil
	}
	if f := r.files[id]; f != nil && f.Quota > 0 && r.used(id)+more > f.Quota {
		return agent.Errorf(agent.CodeNoSpace, "Disk quota exceeded")
	}
	if more > r.free() {
		return agent.Errorf(agent.CodeNoSpace, "No space left on device")
	}
	return nil
}

// open makes and shows files. The caller holds the lock.
func (r *Runtime) open(f agent.Files) error {
	if !r.hasImage(f.Image) {
		return agent.Errorf(agent.CodeNotFound, "There is no image %s", f.Image)
	}
	have := r.files[f.ID]
	if have == nil {
		if r.free() == 0 {
			return agent.Errorf(agent.CodeNoSpace, "No space left on device")
		}
		have = &files{Files: f}
		r.files[f.ID] = have
	}
	if have.Slot != f.Slot || have.Image != f.Image {
		return agent.Errorf(agent.CodeConflict, "The files of %s belong to slot %d and image %s", f.ID, have.Slot, have.Image)
	}
	have.Open = true
	return nil
}

// hasImage tells whether files can be opened that belong to an image. The caller
// holds the lock.
func (r *Runtime) hasImage(digest string) bool {
	_, stored := r.images[digest]
	return stored || digest == r.carried()
}

// carried is the image that the stub's VM carries. The caller holds the lock.
func (r *Runtime) carried() string { return cmp.Or(r.carries, Digest) }

// ensure opens files for a container, and gives them its quota. Those that are
// there stay on their image. The caller holds the lock.
func (r *Runtime) ensure(c agent.Container) error {
	image := r.carried()
	if have := r.files[c.ID]; have != nil {
		image = have.Image
	}
	if err := r.open(agent.Files{ID: c.ID, Slot: c.Slot, Image: image, Quota: c.Quota}); err != nil {
		return err
	}
	r.files[c.ID].Quota = c.Quota
	return nil
}

// Open implements [agent.Storage]. Nobody looks into the directories.
func (s storage) Open(ctx context.Context, f agent.Files, _ func(string)) (v agent.FilesView, err error) {
	err = s.r.do(ctx, OpOpen, f.ID, func() error {
		v = agent.FilesView{Root: "/stub/" + f.ID + "/root", Home: "/stub/" + f.ID + "/home"}
		return s.r.open(f)
	})
	return v, err
}

// Close implements [agent.Storage].
func (s storage) Close(ctx context.Context, id string) error {
	return s.r.do(ctx, OpClose, id, func() error {
		if f := s.r.files[id]; f != nil {
			f.Open = false
		}
		return nil
	})
}

// Remove implements [agent.Storage].
func (s storage) Remove(ctx context.Context, id string) error {
	return s.r.do(ctx, OpRemoveFiles, id, func() error {
		f := s.r.files[id]
		if f != nil && f.Open {
			return agent.Errorf(agent.CodeConflict, "The files of %s are open", id)
		}
		delete(s.r.files, id)
		delete(s.r.homes, id)
		return nil
	})
}

// SetQuota implements [agent.Storage].
func (s storage) SetQuota(ctx context.Context, id string, quota int64) error {
	return s.r.do(ctx, OpSetQuota, id, func() error {
		f := s.r.files[id]
		if f == nil {
			return agent.Errorf(agent.CodeNotFound, "There are no files of %s", id)
		}
		f.Quota = quota
		return nil
	})
}

// Usage implements [agent.Storage].
func (s storage) Usage(ctx context.Context) (u agent.StorageUsage, err error) {
	err = s.r.do(ctx, OpDiskUsage, "", func() error {
		u = agent.StorageUsage{Size: cmp.Or(s.r.size, DiskSize), Free: s.r.free()}
		for _, id := range slices.Sorted(maps.Keys(s.r.files)) {
			f := s.r.files[id]
			u.Files = append(u.Files, agent.FilesUsage{Files: f.Files, Used: s.r.used(id), Open: f.Open})
		}
		for _, digest := range slices.Sorted(maps.Keys(s.r.images)) {
			u.Images = append(u.Images, agent.ImageUsage{Digest: digest, Size: s.r.images[digest]})
		}
		return nil
	})
	return u, err
}

// AddImage implements [agent.Storage]. The archive is as large as the image.
func (s storage) AddImage(ctx context.Context, digest string, archive io.Reader) error {
	n, err := io.Copy(io.Discard, archive)
	if err != nil {
		return fmt.Errorf("add image %s: %w", digest, err)
	}
	return s.r.do(ctx, OpAddImage, digest, func() error {
		if _, there := s.r.images[digest]; there {
			return nil
		}
		if n > s.r.free() {
			return agent.Errorf(agent.CodeNoSpace, "No space left on device")
		}
		s.r.images[digest] = n
		return nil
	})
}

// RemoveImage implements [agent.Storage].
func (s storage) RemoveImage(ctx context.Context, digest string) error {
	return s.r.do(ctx, OpRemoveImage, digest, func() error {
		for id, f := range s.r.files {
			if f.Image == digest {
				return agent.Errorf(agent.CodeConflict, "The files of %s need the image %s", id, digest)
			}
		}
		delete(s.r.images, digest)
		return nil
	})
}

// ChangeImage implements [agent.Storage].
func (s storage) ChangeImage(ctx context.Context, id, digest string) error {
	return s.r.do(ctx, OpChangeImage, id, func() error {
		f := s.r.files[id]
		switch {
		case f == nil:
			return agent.Errorf(agent.CodeNotFound, "There are no files of %s", id)
		case !s.r.hasImage(digest):
			return agent.Errorf(agent.CodeNotFound, "There is no image %s", digest)
		case f.Open:
			return agent.Errorf(agent.CodeConflict, "The files of %s are open", id)
		case f.Image != digest:
			f.Image, f.Extra, f.Packages = digest, 0, nil
		}
		return nil
	})
}

// DefaultDigest implements [agent.ImageSource].
func (r *Runtime) DefaultDigest(context.Context) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.carried(), nil
}

// Packages implements [agent.ImageSource]: those that [Runtime.Install] said.
func (r *Runtime) Packages(ctx context.Context, id string) (names []string, err error) {
	err = r.do(ctx, OpPackages, id, func() error {
		f := r.files[id]
		if f == nil {
			return agent.Errorf(agent.CodeNotFound, "There are no files of %s", id)
		}
		names = slices.Clone(f.Packages)
		return nil
	})
	return names, err
}

// imageSize is what an image takes that is kept, in bytes.
const imageSize = 600 << 20

// KeepImage implements [agent.Storage].
func (s storage) KeepImage(ctx context.Context) error {
	return s.r.do(ctx, OpKeepImage, "", func() error {
		s.r.images[s.r.carried()] = imageSize
		return nil
	})
}

// Carry has the stub's VM carry another image, as after an update.
func (r *Runtime) Carry(digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.carries = digest
}

// Install installs packages in a workspace, as its user does by apt.
func (r *Runtime) Install(id string, names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.files[id]; f != nil {
		f.Packages = names
	}
}

// Fill makes the files of a workspace take so many bytes beside those in its home
// directory, as its user does who installs programs, behind everybody's back.
func (r *Runtime) Fill(id string, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.files[id]; f != nil {
		f.Extra = bytes
	}
}

// ResizeDisk gives the disk another size, in bytes.
func (r *Runtime) ResizeDisk(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size = bytes
}
