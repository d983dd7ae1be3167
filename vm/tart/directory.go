package tart

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/rockpool/rootvm/vm"
)

// Files of a VM's directory.
const (
	configName  = "config.json"
	diskName    = "disk.img"
	nvramName   = "nvram.bin"
	controlName = "control.sock" // made by Tart while the VM runs
)

// sectorSize divides a disk: Virtualization.framework takes no other, and Tart
// checks nothing.
const sectorSize = 512

// recordFile, in the instance's directory, says which VM of Tart's is the
// instance's.
const recordFile = "tart.json"

// record tells what the VM was made from.
type record struct {
	VM       string    `json:"vm"`
	Whole    bool      `json:"whole"`  // false while it is being made
	Source   string    `json:"source"` // the image's directory
	SHA256   string    `json:"sha256,omitempty"`
	Size     int64     `json:"size,omitempty"` // of the directory's disk
	Modified time.Time `json:"modified,omitzero"`
	DiskSize int64     `json:"diskSize,omitempty"` // that was wanted
	MAC      string    `json:"mac,omitempty"`
}

func readRecord(inst vm.Instance) (r record, err error) {
	b, err := os.ReadFile(inst.Path(recordFile))
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, fmt.Errorf("which VM of Tart's is the instance's: %s: %w", inst.Path(recordFile), err)
	}
	return r, nil
}

func (r record) write(inst vm.Instance) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	path := inst.Path(recordFile)
	return renameio.WriteFile(path, append(b, '\n'), 0o600, renameio.WithTempDir(inst.Dir), renameio.WithStaticPermissions(0o600))
}

// wanted is the record of the VM that the configuration asks for.
func wanted(name string, c vm.Config) (record, error) {
	r := record{VM: name, Source: c.Image.Disk, SHA256: c.Image.SHA256, DiskSize: c.DiskSize}
	size, modified, err := checkDirectory(c.Image.Disk)
	if err != nil {
		return r, fmt.Errorf("image %s: %w: %s", c.Image.Disk, err, c.Image.Cure())
	}
	r.Size, r.Modified = size, modified
	return r, nil
}

// same reports whether the VM of r is what want asks for.
func (r record) same(want record) bool {
	return r.Whole && r.VM == want.VM && r.Source == want.Source && r.SHA256 == want.SHA256 &&
		r.Size == want.Size && r.Modified.Equal(want.Modified) && r.DiskSize == want.DiskSize
}

// CheckDirectory says what is wrong with a VM's directory that an instance is to
// be made from.
func CheckDirectory(dir string) error {
	_, _, err := checkDirectory(dir)
	return err
}

// checkDirectory looks for what Tart would say obscurely or not at all.
func checkDirectory(dir string) (size int64, modified time.Time, err error) {
	for _, name := range []string{configName, diskName, nvramName} {
		info, err := os.Stat(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			return 0, modified, fmt.Errorf("it has no %s, so it is no VM of Tart's", name)
		}
		if err != nil {
			return 0, modified, err
		}
		if name == diskName {
			size, modified = info.Size(), info.ModTime()
		}
	}
	if size == 0 || size%sectorSize != 0 {
		return 0, modified, fmt.Errorf("its %s has %d bytes: a disk is a multiple of %d, and not empty", diskName, size, sectorSize)
	}

	c, err := readConfig(dir)
	if err == nil && (c.OS != "linux" || c.Arch != "arm64") {
		err = fmt.Errorf("its %s is of os %q and arch %q: Tart needs linux and arm64", configName, c.OS, c.Arch)
	}
	return size, modified, err
}

// config is what the driver reads of config.json.
type config struct {
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	MACAddress string `json:"macAddress"`
}

func readConfig(dir string) (c config, err error) {
	b, err := os.ReadFile(filepath.Join(dir, configName))
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return c, fmt.Errorf("%s: %w", configName, err)
	}
	return c, nil
}

// copyDirectory makes a VM of the image's directory. It appears under its name
// once it is whole: until then it lies beside it, without the config.json by
// which Tart would take it for a VM.
func copyDirectory(ctx context.Context, image vm.Image, to string) (err error) {
	incoming := to + ".incoming"
	if err := errors.Join(os.RemoveAll(incoming), os.MkdirAll(incoming, 0o755)); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(incoming))
		}
	}()

	if err := copyDisk(ctx, filepath.Join(incoming, diskName), image); err != nil {
		return err
	}
	for name, mode := range map[string]os.FileMode{nvramName: 0o600, configName: 0o644} {
		b, err := os.ReadFile(filepath.Join(image.Disk, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(incoming, name+".new"), b, mode)
		}
		if err != nil {
			return err
		}
	}
	for _, name := range []string{nvramName, configName} {
		if err := os.Rename(filepath.Join(incoming, name+".new"), filepath.Join(incoming, name)); err != nil {
			return err
		}
	}
	return os.Rename(incoming, to)
}

// copyDisk copies an image's disk, as a clone where the file system can, else
// without its holes, and compares it with the digest of its manifest.
func copyDisk(ctx context.Context, to string, image vm.Image) error {
	from := filepath.Join(image.Disk, diskName)
	cloned := cloneFile(to, from) == nil
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()

	h := sha256.New()
	source := io.TeeReader(vm.ContextReader(ctx, in), h)
	switch {
	case !cloned:
		err = copyWithoutHoles(to, source)
	case image.SHA256 != "":
		_, err = io.Copy(io.Discard, source)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	if image.SHA256 != "" && hex.EncodeToString(h.Sum(nil)) != image.SHA256 {
		return fmt.Errorf("image %s is corrupt (it is not what its manifest describes): %s", from, image.Cure())
	}
	return os.Chmod(to, 0o644)
}

func copyWithoutHoles(to string, from io.Reader) error {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(vm.CopySparse(out, from), out.Close())
}
