package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// Where older releases had the files of a workspace, below [Pool.Containers]: the
// home directory in a volume, the own layer in what Podman keeps of a container.
const (
	podmanVolumes    = "storage/volumes"
	podmanContainers = "storage/overlay-containers"
	podmanLayers     = "storage/overlay"
)

// takeOverDir holds, in the subvolume of a workspace, what taking over needs to go
// on after a power cut: a name for each file that has several, by its inode of
// before, until all of them are made.
const takeOverDir = "takeover"

// podmanContainer is an entry of Podman's containers.json.
type podmanContainer struct {
	ID    string   `json:"id"`
	Layer string   `json:"layer"`
	Names []string `json:"names"`
}

// old are the directories that an older release left; nil where there is none.
type old struct{ home, layer *os.File }

// close closes the directories.
func (o old) close() {
	for _, f := range []*os.File{o.home, o.layer} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// leftBehind reports what an older release left of a workspace.
func (p *Pool) leftBehind(id string) (home, layer bool, err error) {
	o, err := p.openOld(id)
	if err != nil {
		return false, false, err
	}
	defer o.close()
	return o.home != nil, o.layer != nil, nil
}

// openOld opens what an older release left. All of it belongs to the account that
// runs containers, which may have put links anywhere: none leads out of Podman's
// directory.
func (p *Pool) openOld(id string) (old, error) {
	var o old
	root, err := os.OpenRoot(p.Containers)
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	defer root.Close()

	o.home, err = openOldDir(root, filepath.Join(podmanVolumes, "rockpool-"+id+"-home", "_data"))
	if err != nil {
		return o, err
	}
	c, err := findContainer(root, "rockpool-"+id)
	if err == nil && c.ID != "" {
		o.layer, err = openOldDir(root, filepath.Join(podmanContainers, c.ID, "rootfs", "upper"))
	}
	if err == nil && o.layer == nil && c.Layer != "" { // of an image in Podman's store
		o.layer, err = openOldDir(root, filepath.Join(podmanLayers, c.Layer, "diff"))
	}
	if err != nil {
		o.close()
		return old{}, err
	}
	return o, nil
}

// openOldDir opens a directory with something in it; nil where there is none.
func openOldDir(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(1)
	if len(names) == 0 || err != nil {
		_ = f.Close()
		return nil, nil
	}
	_, err = f.Seek(0, 0)
	return f, err
}

// findContainer finds a container by its name; its ID is "" where there is none.
func findContainer(root *os.Root, name string) (podmanContainer, error) {
	b, err := root.ReadFile(filepath.Join(podmanContainers, "containers.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return podmanContainer{}, nil
	}
	if err != nil {
		return podmanContainer{}, err
	}
	var all []podmanContainer
	if err := json.Unmarshal(b, &all); err != nil {
		return podmanContainer{}, fmt.Errorf("read the list of Podman's containers: %w", err)
	}
	i := slices.IndexFunc(all, func(c podmanContainer) bool { return slices.Contains(c.Names, name) })
	if i < 0 {
		return podmanContainer{}, nil
	}
	return all[i], nil
}

// takeOver moves what an older release left into the files of a workspace, or goes
// on with it. Meanwhile nothing limits them: what is there has to fit.
func (p *Pool) takeOver(ctx context.Context, f agent.Files, r record, report func(string)) error {
	first, err := p.firstID(f.Slot)
	if err != nil {
		return err
	}
	o, err := p.openOld(f.ID)
	if err != nil {
		return err
	}
	defer o.close()
	if err := p.limit(f.ID, 0); err != nil {
		return err
	}

	dir := p.path(filesDir, f.ID)
	if err := ensureDir(filepath.Join(dir, takeOverDir), 0o700); err != nil {
		return err
	}
	links, err := os.Open(filepath.Join(dir, takeOverDir))
	if err != nil {
		return err
	}
	defer links.Close()
	m, err := newMover(p, links, report)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		from    *os.File
		to      string
		convert converter
	}{{o.home, homeDir, fromSlot(first)}, {o.layer, layerName(r.Image), fromLayer(fromSlot(first))}} {
		if part.from == nil {
			continue
		}
		if err := m.moveAll(ctx, part.from, filepath.Join(dir, part.to, upperDir), part.convert); err != nil {
			return fmt.Errorf("take over what an older release left: %w", err)
		}
	}

	if err := m.unmark(); err != nil {
		return err
	}
	p.done()
	if err := os.RemoveAll(links.Name()); err != nil {
		return err
	}
	r.TakeOver = false
	if err := writeRecord(dir, r); err != nil {
		return err
	}
	p.done()
	return errors.Join(commit(dir), p.limit(f.ID, f.Quota))
}
