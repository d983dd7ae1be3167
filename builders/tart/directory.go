package tart

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// WriteDirectory writes the VM's directory at path: config.json, a sparse
// disk.img and an empty nvram.bin, with the modes that `tart create` leaves. A
// directory that is there already is replaced by the whole new one; a failed or
// cancelled write leaves it.
func (i Image) WriteDirectory(ctx context.Context, path string) error {
	if err := i.writeDirectory(ctx, path); err != nil {
		return fmt.Errorf("write the Tart VM %s: %w", path, err)
	}
	return nil
}

func (i Image) writeDirectory(ctx context.Context, path string) error {
	config, err := i.Config.encode()
	if err != nil {
		return err
	}
	disk, size, err := i.openDisk()
	if err != nil {
		return err
	}
	defer disk.Close()

	dir, err := createDirectory(path)
	if err != nil {
		return err
	}
	defer dir.cleanup()

	if err := dir.writeFile(configName, config, 0o644); err != nil {
		return err
	}
	if err := dir.writeFile(nvramName, nvram(), 0o600); err != nil {
		return err
	}

	to, err := os.OpenFile(filepath.Join(dir.tmp, diskName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	err = errors.Join(copySparse(ctx, to, disk, size), to.Chmod(0o644))
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}

	return dir.finish()
}
