package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Names below [Pool.Dir], on the data disk's ext4.
const (
	poolFile  = "pool.btrfs" // the pool
	newPool   = "pool.new"   // one that is being made
	poolMount = "pool"       // where the pool is mounted, for root alone
	openMount = "open"       // memory, holds the places of what is shown
)

// Names in the pool.
const (
	filesDir   = "files"   // a subvolume for each workspace, by id
	imagesDir  = "images"  // a subvolume for each image, by digest
	stagingDir = "staging" // subvolumes that are being made, by the name of their lock
	emptyDir   = "empty"   // an empty directory, the layer below homes
)

// growStep is what a pool has to be short of before it grows, in bytes: less is
// not worth the work.
const growStep = 128 << 20

// path returns a path in the pool.
func (p *Pool) path(names ...string) string {
	return filepath.Join(append([]string{p.Dir, poolMount}, names...)...)
}

// prepare mounts the pool unless it is mounted, makes it unless it is there, lets
// it grow, and clears away what was cut short. Whatever a power cut leaves is
// found here by the first request after it.
func (p *Pool) prepare(ctx context.Context) error {
	unlock, err := p.lock(ctx, "pool")
	if err != nil {
		return err
	}
	defer unlock()

	mounted, err := isMountPoint(p.path())
	if err != nil {
		return err
	}
	if !mounted {
		if err := p.mount(ctx); err != nil {
			return fmt.Errorf("the disk of the workspaces: %w", err)
		}
	}
	if err := p.grow(0); err != nil {
		return fmt.Errorf("the disk of the workspaces: %w", err)
	}
	return p.sweep()
}

// mount brings the pool into service.
func (p *Pool) mount(ctx context.Context) error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		{p.Dir, 0o711}, {p.path(), 0o700}, {filepath.Join(p.Dir, openMount), 0o711},
	} {
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return err
		}
	}
	file := filepath.Join(p.Dir, poolFile)
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		err = p.create(ctx, file)
		if err != nil {
			return err
		}
	}

	// Below the data disk, so that the system's manager unmounts it before.
	places := filepath.Join(p.Dir, openMount)
	if mounted, err := isMountPoint(places); err != nil {
		return err
	} else if !mounted {
		if err := unix.Mount("rockpool-open", places, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=711,size=1m"); err != nil {
			return fmt.Errorf("mount %s: %w", places, err)
		}
	}
	device, err := attach(file)
	if err != nil {
		return err
	}
	defer device.Close()
	if err := unix.Mount(device.Name(), p.path(), "btrfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, "discard=async"); err != nil {
		return fmt.Errorf("mount %s: %w (a newer image may have made it: start that one again)", file, err)
	}
	return p.layOut()
}

// layOut makes what a pool has.
func (p *Pool) layOut() error {
	q, err := quotasOf(p.path())
	if err != nil {
		return err
	}
	if err := q.enable(!p.ordinary); err != nil {
		return err
	}
	for _, name := range []string{filesDir, imagesDir, stagingDir} {
		if err := os.MkdirAll(p.path(name), 0o700); err != nil {
			return err
		}
	}
	return os.MkdirAll(p.path(emptyDir), 0o755)
}

// create makes an empty pool beside its place, so that a cut leaves either a
// whole one or none.
func (p *Pool) create(ctx context.Context, file string) error {
	size, err := p.size(0)
	if err != nil {
		return err
	}
	made := filepath.Join(p.Dir, newPool)
	f, err := os.OpenFile(made, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}

	// One copy of the metadata: the file's disk has one of everything else.
	out, err := exec.CommandContext(ctx, "mkfs.btrfs", "--quiet", "--force", "--nodiscard", "--sectorsize", fmt.Sprint(loopBlock),
		"--label", "rockpool-pool", "--metadata", "single", "--data", "single", made).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.btrfs: %w: %s", err, out)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(made, file); err != nil {
		return err
	}
	return syncDir(p.Dir)
}

// grow lets the pool take what the disk below it has gained, and grow by so many
// bytes at least, where the disk has them: what is moved into the pool may need its
// room before it gives up its own.
func (p *Pool) grow(atLeast int64) error {
	file := filepath.Join(p.Dir, poolFile)
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return err
	}
	taken := st.Blocks * 512
	want, err := p.size(taken)
	if err != nil {
		return err
	}
	if atLeast > 0 {
		var disk unix.Statfs_t
		if err := unix.Statfs(p.Dir, &disk); err != nil {
			return err
		}
		free := int64(disk.Bavail)*disk.Bsize - lastReserve
		want = max(want, min(st.Size+atLeast, (taken+free)/loopBlock*loopBlock))
	}
	if want-st.Size >= growStep || atLeast > 0 && want > st.Size {
		if err := os.Truncate(file, want); err != nil {
			return err
		}
	} else {
		want = st.Size
	}

	// A cut between the steps leaves a device, or a file system, that is smaller.
	var below unix.Statfs_t
	if err := unix.Statfs(p.path(), &below); err != nil {
		return err
	}
	if want-int64(below.Blocks)*below.Bsize < loopBlock {
		return nil
	}
	source, err := mountSource(p.path())
	if err != nil {
		return err
	}
	if err := resizeDevice(source); err != nil {
		return err
	}
	return resizeToDevice(p.path())
}

// makeRoom lets the pool grow while files are moved into it from the disk below: as
// that gets emptier, and ahead of it where the next batch would not fit.
func (p *Pool) makeRoom(ctx context.Context) error {
	unlock, err := p.lock(ctx, "pool")
	if err != nil {
		return err
	}
	defer unlock()
	var pool unix.Statfs_t
	if err := unix.Statfs(p.path(), &pool); err != nil {
		return fmt.Errorf("look at the pool: %w", err)
	}
	free := int64(pool.Bavail) * pool.Bsize
	return p.grow(max(0, batchRoom-free))
}

// lastReserve is what even moving files leaves of the disk below, in bytes.
const lastReserve = 32 << 20

// size is how large the pool's file may be, given how much of the disk it has
// taken so far, in bytes: all of the disk, less what others hold of it, less the
// reserve. So it never finds the disk below it full.
func (p *Pool) size(taken int64) (int64, error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(p.Dir, &disk); err != nil {
		return 0, fmt.Errorf("look at the data disk: %w", err)
	}
	total := int64(disk.Blocks) * disk.Bsize
	others := total - int64(disk.Bfree)*disk.Bsize - taken
	size := total - others - reserve(total)
	if size < minPool {
		size = minPool
		if free := int64(disk.Bavail) * disk.Bsize; taken == 0 && free < minFree {
			return 0, fmt.Errorf("the data disk has %d MB free and needs %d: %w", free>>20, minFree>>20, unix.ENOSPC)
		}
	}
	return size / loopBlock * loopBlock, nil
}

// minPool is the smallest pool, and minFree what a disk has to have free for one to
// be made, in bytes: what is moved into it first, before that is deleted where it
// was.
const (
	minPool = 256 << 20
	minFree = 2 * batchBytes
)

// reserve is what is left to the database, logs and Podman's state on a disk of
// this size, in bytes.
func reserve(total int64) int64 { return min(2<<30, total/4) }

// sweep deletes what was cut short: whoever makes a subvolume in staging holds the
// lock of its name.
func (p *Pool) sweep() error {
	entries, err := os.ReadDir(p.path(stagingDir))
	if err != nil {
		return err
	}
	var swept error
	for _, e := range entries {
		unlock, ok, err := p.tryLock(e.Name())
		if err == nil && ok {
			err = destroySubvolume(p.path(stagingDir, e.Name()))
			unlock()
		}
		swept = errors.Join(swept, err)
	}
	return swept
}

// dropQuotas removes the quota groups of subvolumes that are gone.
func (p *Pool) dropQuotas(q quotas) error {
	alive := map[uint64]bool{}
	for _, dir := range []string{filesDir, imagesDir, stagingDir} {
		entries, err := os.ReadDir(p.path(dir))
		if err != nil {
			return err
		}
		for _, e := range entries {
			id, err := subvolumeID(p.path(dir, e.Name()))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			alive[id] = true
		}
	}
	return q.drop(alive)
}

// syncDir writes out the names in a directory.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
