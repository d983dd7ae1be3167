package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

// imageName is the name of an image in the pool, and of its lock.
func imageName(digest string) string { return strings.Replace(digest, ":", "-", 1) }

// imageDigest is the digest of the image with a name in the pool.
func imageDigest(name string) string { return strings.Replace(name, "-", ":", 1) }

// ownImage is the digest of the VM's own image.
func (p *Pool) ownImage() (string, error) {
	b, err := os.ReadFile(filepath.Join(p.Image, "digest"))
	return strings.TrimSpace(string(b)), err
}

// ownRoot is the root file system of the VM's own image.
func (p *Pool) ownRoot() string { return filepath.Join(p.Image, "rootfs") }

// image returns the root file system of an image.
func (p *Pool) image(digest string) (string, error) {
	if own, err := p.ownImage(); err == nil && own == digest {
		return p.ownRoot(), nil
	}
	dir := p.path(imagesDir, imageName(digest))
	if _, err := os.Lstat(dir); err != nil {
		return "", agent.Errorf(agent.CodeNotFound, "The image %s is not on this disk", digest)
	}
	return dir, nil
}

// AddImage implements [agent.Storage].
func (p *Pool) AddImage(ctx context.Context, digest string, archive io.Reader) error {
	return p.storeImage(ctx, digest, func(dir *os.File) error { return unpack(ctx, archive, dir) })
}

// KeepImage implements [agent.Storage].
func (p *Pool) KeepImage(ctx context.Context) error {
	digest, err := p.ownImage()
	if err != nil {
		return fmt.Errorf("keep the VM's own image: %w", err)
	}
	return p.storeImage(ctx, digest, func(dir *os.File) error {
		from, err := os.Open(p.ownRoot())
		if err != nil {
			return err
		}
		defer from.Close()
		return newCopier(dir).copyTree(ctx, from, dir)
	})
}

// storeImage makes an image unless it is there: fill fills its root directory.
func (p *Pool) storeImage(ctx context.Context, digest string, fill func(*os.File) error) error {
	if !agent.ValidDigest(digest) {
		return agent.Errorf(agent.CodeValidation, "%q is not the digest of an image", digest)
	}
	if err := p.prepare(ctx); err != nil {
		return err
	}
	name := imageName(digest)
	unlock, err := p.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	place := p.path(imagesDir, name)
	if _, err := os.Lstat(place); err == nil {
		return sealSubvolume(place) // which a cut may have kept from it
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	if err := p.createStaged(ctx, name); err != nil {
		return err
	}
	p.done()
	staged := p.path(stagingDir, name)
	if err := fillImage(staged, fill); err != nil {
		return fmt.Errorf("store the image %s: %w", digest, errors.Join(err, destroySubvolume(staged)))
	}
	p.done()
	if err := os.Rename(staged, place); err != nil {
		return fmt.Errorf("store the image %s: %w", digest, errors.Join(err, destroySubvolume(staged)))
	}
	p.done()
	if err := sealSubvolume(place); err != nil { // one that is sealed has no other name
		return err
	}
	p.done()
	return commit(p.path())
}

// fillImage fills a subvolume.
func fillImage(staged string, fill func(*os.File) error) error {
	dir, err := os.Open(staged)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := fill(dir); err != nil {
		return err
	}
	return commit(staged) // what cannot be written is said now
}

// RemoveImage implements [agent.Storage].
func (p *Pool) RemoveImage(ctx context.Context, digest string) error {
	if !agent.ValidDigest(digest) {
		return agent.Errorf(agent.CodeValidation, "%q is not the digest of an image", digest)
	}
	if err := p.prepare(ctx); err != nil {
		return err
	}
	unlock, err := p.lock(ctx, imageName(digest))
	if err != nil {
		return err
	}
	defer unlock()

	return p.discard(ctx, p.path(imagesDir, imageName(digest)), func() error {
		entries, err := os.ReadDir(p.path(filesDir))
		if err != nil {
			return err
		}
		for _, e := range entries {
			r, err := p.readRecord(e.Name())
			if err != nil {
				return err
			}
			if r.Image == digest {
				return agent.Errorf(agent.CodeConflict, "The workspace %s needs the image %s", e.Name(), digest)
			}
		}
		return nil
	})
}

// ChangeImage implements [agent.Storage].
func (p *Pool) ChangeImage(ctx context.Context, id, digest string) error {
	if !agent.ValidID(id) || !agent.ValidDigest(digest) {
		return agent.Errorf(agent.CodeValidation, "%q is not the id of a workspace, or %q not the digest of an image", id, digest)
	}
	if err := p.prepare(ctx); err != nil {
		return err
	}
	unlock, err := p.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()

	r, err := p.readRecord(id)
	if errors.Is(err, fs.ErrNotExist) {
		return agent.Errorf(agent.CodeNotFound, "This workspace has no files yet")
	}
	if err != nil || r.Image == digest {
		return err
	}
	open, err := p.isOpen(id)
	if err != nil {
		return err
	}
	if open || r.TakeOver {
		return agent.Errorf(agent.CodeConflict, "The files of this workspace are in use, or not all here yet")
	}
	return p.changeImage(ctx, id, r, digest)
}

// changeImage gives closed files another image. The record decides which own layer
// is the workspace's, so it changes in one step.
func (p *Pool) changeImage(ctx context.Context, id string, r record, digest string) error {
	_, limit, err := p.usage(id)
	if err != nil {
		return err
	}
	r.Image = digest
	f := agent.Files{ID: id, Slot: r.Slot, Image: r.Image, Quota: limit}
	err = p.withRoom(f, func() error {
		// RemoveImage looks at records.
		unlock, err := p.lock(ctx, "pool")
		if err != nil {
			return err
		}
		defer unlock()
		lower, err := p.image(digest)
		if err != nil {
			return err
		}
		dir := p.path(filesDir, id)
		if err := os.RemoveAll(filepath.Join(dir, layerName(digest))); err != nil {
			return err
		}
		upper, err := makePart(dir, layerName(digest))
		if err != nil {
			return err
		}
		if err := copyRoot(upper, lower); err != nil {
			return err
		}
		p.done()
		return writeRecord(dir, r)
	})
	p.done()
	if err != nil {
		return fmt.Errorf("change the image of the workspace %s: %w", id, err)
	}
	return errors.Join(p.removeOtherLayers(id, r), commit(p.path()))
}
