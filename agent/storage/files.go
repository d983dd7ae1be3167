package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// Names in the subvolume of a workspace. Home and layer have an upper and a work
// directory each, as the kernel's overlays want them.
const (
	recordFile = "record.json"
	homeDir    = "home"
	layerDir   = "layer-" // and the image's digest: one of another image is none
	upperDir   = "upper"
	workDir    = "work"
)

// record is what is known of a workspace's files, beside them.
type record struct {
	Slot     int
	Image    string
	TakeOver bool // an older release's files are still being taken over
}

// Open implements [agent.Storage].
func (p *Pool) Open(ctx context.Context, f agent.Files, report func(string)) (agent.FilesView, error) {
	if err := check(f); err != nil {
		return agent.FilesView{}, err
	}
	if err := p.prepare(ctx); err != nil {
		return agent.FilesView{}, err
	}
	unlock, err := p.lock(ctx, f.ID)
	if err != nil {
		return agent.FilesView{}, err
	}
	defer unlock()

	if err := p.ensureFiles(ctx, f, report); err != nil {
		return agent.FilesView{}, fmt.Errorf("files of the workspace %s: %w", f.ID, err)
	}
	view, err := p.ensureShown(ctx, f)
	if err != nil {
		return agent.FilesView{}, fmt.Errorf("show the files of the workspace %s: %w", f.ID, err)
	}
	return view, nil
}

// check refuses what no caller has a reason to ask for.
func check(f agent.Files) error {
	switch {
	case !agent.ValidID(f.ID):
		return agent.Errorf(agent.CodeValidation, "%q is not the id of a workspace", f.ID)
	case !agent.ValidSlot(f.Slot):
		return agent.Errorf(agent.CodeValidation, "The slot %d is not below %d", f.Slot, agent.ContainerSlots)
	case !agent.ValidDigest(f.Image):
		return agent.Errorf(agent.CodeValidation, "%q is not the digest of an image", f.Image)
	case f.Quota <= 0:
		return agent.Errorf(agent.CodeValidation, "The quota %d is not above 0", f.Quota)
	}
	return nil
}

// ensureFiles makes the files of a workspace unless they are there.
func (p *Pool) ensureFiles(ctx context.Context, f agent.Files, report func(string)) error {
	r, err := p.readRecord(f.ID)
	if errors.Is(err, fs.ErrNotExist) {
		r, err = p.makeFiles(ctx, f)
	}
	if err != nil {
		return err
	}
	switch {
	case r.Slot != f.Slot:
		return agent.Errorf(agent.CodeConflict, "The files of this workspace belong to slot %d, not to %d", r.Slot, f.Slot)
	case r.Image != f.Image:
		return agent.Errorf(agent.CodeConflict, "The files of this workspace belong to the image %s, not to %s", r.Image, f.Image)
	case r.TakeOver:
		return p.takeOver(ctx, f, r, report)
	}
	return errors.Join(p.removeOtherLayers(f.ID, r), p.limit(f.ID, f.Quota))
}

// removeOtherLayers deletes own layers that no image needs: moving on to another
// was cut short.
func (p *Pool) removeOtherLayers(id string, r record) error {
	dir := p.path(filesDir, id)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), layerDir) || e.Name() == layerName(r.Image) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// usage is what the files of a workspace hold, and their quota, in bytes.
func (p *Pool) usage(id string) (used, quota int64, err error) {
	q, err := quotasOf(p.path())
	if err != nil {
		return 0, 0, err
	}
	subvolume, err := subvolumeID(p.path(filesDir, id))
	if err != nil {
		return 0, 0, err
	}
	return q.usage(subvolume)
}

// limit sets the quota of a workspace's files.
func (p *Pool) limit(id string, quota int64) error {
	q, err := quotasOf(p.path())
	if err != nil {
		return err
	}
	subvolume, err := subvolumeID(p.path(filesDir, id))
	if err != nil {
		return err
	}
	return q.setLimit(subvolume, quota)
}

// makeFiles makes the files of a workspace that has none, beside their place.
func (p *Pool) makeFiles(ctx context.Context, f agent.Files) (record, error) {
	lower, err := p.image(f.Image)
	if err != nil {
		return record{}, err
	}
	home, layer, err := p.leftBehind(f.ID)
	if err != nil {
		return record{}, err
	}
	r := record{Slot: f.Slot, Image: f.Image, TakeOver: home || layer}

	staged := p.path(stagingDir, f.ID)
	if err := p.createStaged(ctx, f.ID); err != nil {
		return record{}, err
	}
	p.done()
	if err := fillFiles(ctx, staged, lower, r, home, layer); err != nil {
		return record{}, errors.Join(err, destroySubvolume(staged))
	}
	p.done()
	// Until here, another request may have deleted the image.
	release, err := p.lock(ctx, "pool")
	if err != nil {
		return record{}, errors.Join(err, destroySubvolume(staged))
	}
	defer release()
	if _, err := p.image(f.Image); err != nil {
		return record{}, errors.Join(err, destroySubvolume(staged))
	}
	if err := os.Rename(staged, p.path(filesDir, f.ID)); err != nil {
		return record{}, errors.Join(err, destroySubvolume(staged))
	}
	p.done()
	return r, commit(p.path())
}

// createStaged makes an empty subvolume in staging, whose name the caller has
// locked, and deletes the one that a request before it left there.
func (p *Pool) createStaged(ctx context.Context, name string) error {
	unlock, err := p.lock(ctx, "pool") // dropQuotas knows all subvolumes
	if err != nil {
		return err
	}
	defer unlock()
	staged := p.path(stagingDir, name)
	if err := destroySubvolume(staged); err != nil {
		return err
	}
	return createSubvolume(staged)
}

// fillFiles lays out the subvolume of a workspace. Its home directory is the
// image's own, as a first container would find it, unless there is an old one;
// directories that are to be moved here have no permissions before.
func fillFiles(ctx context.Context, dir, image string, r record, oldHome, oldLayer bool) error {
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	home, err := makePart(dir, homeDir)
	if err != nil {
		return err
	}
	layer, err := makePart(dir, layerName(r.Image))
	if err != nil {
		return err
	}
	if oldHome {
		err = os.Chmod(home, 0)
	} else {
		err = fillHome(ctx, home, image)
	}
	if err != nil {
		return fmt.Errorf("make the home directory: %w", err)
	}
	if oldLayer {
		err = os.Chmod(layer, 0)
	} else {
		err = copyRoot(layer, image)
	}
	if err != nil {
		return fmt.Errorf("make the own layer: %w", err)
	}
	return writeRecord(dir, r)
}

// makePart makes the directories of a part of a workspace's files, and returns the
// one that takes its files.
func makePart(dir, part string) (upper string, err error) {
	for _, name := range []string{"", upperDir, workDir} {
		if err := ensureDir(filepath.Join(dir, part, name), 0o755); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, part, upperDir), nil
}

// layerName is the name of the own layer that belongs to an image.
func layerName(digest string) string { return layerDir + strings.TrimPrefix(digest, "sha256:") }

// readRecord returns the record of a workspace's files; [fs.ErrNotExist] where
// there are none.
func (p *Pool) readRecord(id string) (record, error) {
	var r record
	b, err := os.ReadFile(p.path(filesDir, id, recordFile))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", recordFile, err)
	}
	return r, nil
}

// writeRecord replaces the record in the subvolume of a workspace.
func writeRecord(dir string, r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, recordFile), b, 0o600)
}

// Remove implements [agent.Storage].
func (p *Pool) Remove(ctx context.Context, id string) error {
	if !agent.ValidID(id) {
		return agent.Errorf(agent.CodeValidation, "%q is not the id of a workspace", id)
	}
	if err := p.prepare(ctx); err != nil {
		return err
	}
	unlock, err := p.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()

	if open, err := p.isOpen(id); err != nil {
		return err
	} else if open {
		return agent.Errorf(agent.CodeConflict, "The files of this workspace are in use: stop it first")
	}
	if err := errors.Join(p.removePlaces(id), p.discard(ctx, p.path(filesDir, id), nil)); err != nil {
		return fmt.Errorf("delete the files of the workspace %s: %w", id, err)
	}
	return nil
}

// discard deletes a subvolume and its quota. It does not where mayGo, if given,
// says why, while no other request makes or deletes one.
func (p *Pool) discard(ctx context.Context, path string, mayGo func() error) error {
	unlock, err := p.lock(ctx, "pool")
	if err != nil {
		return err
	}
	defer unlock()
	if mayGo != nil {
		if err := mayGo(); err != nil {
			return err
		}
	}
	if err := destroySubvolume(path); err != nil {
		return err
	}
	p.done()
	q, err := quotasOf(p.path())
	if err != nil {
		return err
	}
	return errors.Join(p.dropQuotas(q), commit(p.path()))
}

// SetQuota implements [agent.Storage].
func (p *Pool) SetQuota(ctx context.Context, id string, quota int64) error {
	if !agent.ValidID(id) || quota <= 0 {
		return agent.Errorf(agent.CodeValidation, "%q is not the id of a workspace, or %d not a quota", id, quota)
	}
	if err := p.prepare(ctx); err != nil {
		return err
	}
	unlock, err := p.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	err = p.limit(id, quota)
	if errors.Is(err, unix.ENOENT) {
		return agent.Errorf(agent.CodeNotFound, "This workspace has no files yet")
	}
	return err
}

// Usage implements [agent.Storage].
func (p *Pool) Usage(ctx context.Context) (agent.StorageUsage, error) {
	var u agent.StorageUsage
	if err := p.prepare(ctx); err != nil {
		return u, err
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(p.path(), &disk); err != nil {
		return u, fmt.Errorf("look at the pool: %w", err)
	}
	u.Size = int64(disk.Blocks) * disk.Bsize
	u.Free = int64(disk.Bavail) * disk.Bsize
	q, err := quotasOf(p.path())
	if err != nil {
		return u, err
	}

	err = p.each(filesDir, q, func(name string, used, limit int64) error {
		r, err := p.readRecord(name)
		if err != nil {
			return err
		}
		open, err := p.isOpen(name)
		f := agent.Files{ID: name, Slot: r.Slot, Image: r.Image, Quota: limit}
		u.Files = append(u.Files, agent.FilesUsage{Files: f, Used: used, Open: open})
		return err
	})
	if err != nil {
		return u, err
	}
	err = p.each(imagesDir, q, func(name string, used, _ int64) error {
		u.Images = append(u.Images, agent.ImageUsage{Digest: imageDigest(name), Size: used})
		return nil
	})
	return u, err
}

// each calls f for every subvolume in a directory of the pool, with what it holds
// and its quota. What is deleted meanwhile is left out.
func (p *Pool) each(dir string, q quotas, f func(name string, used, limit int64) error) error {
	entries, err := os.ReadDir(p.path(dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		subvolume, err := subvolumeID(p.path(dir, e.Name()))
		var used, limit int64
		if err == nil {
			used, limit, err = q.usage(subvolume)
		}
		if err == nil {
			err = f(e.Name(), used, limit)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("usage of %s: %w", e.Name(), err)
		}
	}
	return nil
}
