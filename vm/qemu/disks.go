package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/renameio/v2"

	"github.com/rockpool/rootvm/vm"
)

// Files of an instance that this driver owns.
const (
	baseFile     = "base.qcow2" // hard link to the image, so that replacing that one does no harm
	rootFile     = "root.qcow2" // overlay on it: disposable
	rootInfoFile = "root.json"
	dataFile     = "data.raw" // sparse; never overwritten
	varsFile     = "uefi-vars.fd"
)

// inPlace is how a file of the instance is replaced in one step: beside the old
// one, and for its owner only.
func inPlace(path string) []renameio.Option {
	return []renameio.Option{renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o600)}
}

// rootInfo tells what the root disk was made from.
type rootInfo struct {
	Base     string    `json:"base"`   // the backing file
	Source   string    `json:"source"` // the image it is, or links to
	SHA256   string    `json:"sha256"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	DiskSize int64     `json:"diskSize"`
}

// rootDisk makes sure that the overlay stands on the image of the
// configuration and returns its path. It is made again when the image or the
// wanted size changed, or when it is damaged.
func (d *Driver) rootDisk(ctx context.Context, inst vm.Instance) (path, note string, err error) {
	path = inst.Path(rootFile)
	image := inst.Config.Image
	info, err := os.Stat(image.Disk)
	if errors.Is(err, os.ErrNotExist) {
		return "", "", fmt.Errorf("image %s is missing: %s", image.Disk, image.Cure())
	}
	if err != nil {
		return "", "", fmt.Errorf("image: %w", err)
	}

	var old rootInfo
	b, _ := os.ReadFile(inst.Path(rootInfoFile))
	json.Unmarshal(b, &old)
	want := rootInfo{Source: image.Disk, SHA256: image.SHA256, Size: info.Size(), Modified: info.ModTime(), DiskSize: inst.Config.DiskSize}

	unchanged := old.SHA256 != "" && (image.SHA256 == "" || old.SHA256 == image.SHA256) && old.Size == want.Size &&
		old.Modified.Equal(want.Modified) && old.DiskSize == want.DiskSize
	if unchanged {
		fault := errors.Join(d.check(ctx, old.Base), d.check(ctx, path))
		if fault == nil {
			return path, "", nil
		}
		note = "the root disk was damaged and is made again"
	}

	if want.SHA256, err = verifyImage(image); err != nil {
		return "", "", err
	}
	if err := d.check(ctx, image.Disk); err != nil {
		return "", "", fmt.Errorf("image %s is corrupt (%w): %s", image.Disk, err, image.Cure())
	}
	if old.SHA256 != "" && old.SHA256 != want.SHA256 {
		note = "the image changed: the root disk is made again, data stays"
	}
	want.Base = holdImage(inst.Path(baseFile), image.Disk)
	return path, note, d.makeOverlay(ctx, inst, want)
}

// verifyImage compares the image with the digest of its manifest.
func verifyImage(image vm.Image) (string, error) {
	f, err := os.Open(image.Disk)
	if err != nil {
		return "", fmt.Errorf("image: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read image %s: %w", image.Disk, err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	if image.SHA256 != "" && sum != image.SHA256 {
		return "", fmt.Errorf("image %s is corrupt (it is not what its manifest describes): %s", image.Disk, image.Cure())
	}
	return sum, nil
}

// holdImage links the image to path, so that the overlay's backing file stays
// what it is when the image is replaced. Where links are impossible it returns
// the image's own path, which a running QEMU keeps open.
func holdImage(path, image string) string {
	os.Remove(path)
	if os.Link(image, path) == nil {
		return path
	}
	return image
}

// makeOverlay replaces the root disk. qemu-img writes the file, under a name of
// our choice, which is why it is renamed here and not by a library.
func (d *Driver) makeOverlay(ctx context.Context, inst vm.Instance, info rootInfo) error {
	path := inst.Path(rootFile)
	os.Remove(inst.Path(rootInfoFile)) // not valid from here on

	args := []string{"create", "-q", "-f", "qcow2", "-b", info.Base, "-F", "qcow2", path + ".new"}
	if info.DiskSize > 0 {
		args = append(args, strconv.FormatInt(info.DiskSize, 10))
	}
	if out, err := d.img(ctx, args...); err != nil {
		return fmt.Errorf("make the root disk: %w: %s", err, firstLine(out))
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("make the root disk: %w", err)
	}

	b, err := json.MarshalIndent(info, "", "  ")
	if err == nil {
		path := inst.Path(rootInfoFile)
		err = renameio.WriteFile(path, append(b, '\n'), 0o600, inPlace(path)...)
	}
	if err != nil {
		return fmt.Errorf("make the root disk: %w", err)
	}
	return nil
}

// check has qemu-img look at the structure of a qcow2 file.
func (d *Driver) check(ctx context.Context, path string) error {
	out, err := d.img(ctx, "check", "-q", "-f", "qcow2", path)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.ExitCode() == 3: // leaked clusters only: they waste space, no more
		return nil
	}
	if line := firstLine(out); line != "" {
		return errors.New(line)
	}
	return err
}

func (d *Driver) img(ctx context.Context, args ...string) ([]byte, error) {
	argv := d.Programs.QEMUImg
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:len(argv):len(argv)], args...)...)
	cmd.Env = append(os.Environ(), d.Programs.Env...)
	return cmd.CombinedOutput()
}

// firmwareVars gives the instance its own copy of the UEFI variables.
func (d *Driver) firmwareVars(inst vm.Instance) (string, error) {
	path := inst.Path(varsFile)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	b, err := os.ReadFile(d.Programs.OVMFVars)
	if err != nil {
		return "", fmt.Errorf("uefi firmware: %w: install the package ovmf (amd64) or qemu-efi-aarch64 (arm64)", err)
	}
	if err := renameio.WriteFile(path, b, 0o600, inPlace(path)...); err != nil {
		return "", fmt.Errorf("uefi variables: %w", err)
	}
	return path, nil
}
