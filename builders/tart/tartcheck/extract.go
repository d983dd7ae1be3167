package tartcheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Manifest checks the manifest of an OCI layout, whose other blobs may be
// missing: that it is a Tart artifact's, with the layers in order.
func Manifest(dir string) error {
	if _, _, err := (layout{dir}).artifact(); err != nil {
		return fmt.Errorf("no Tart artifact: %w", err)
	}
	return nil
}

// Extract makes the VM's directory to, which must not be there yet, of the Tart
// artifact in the OCI layout dir. All is checked that [Layout] checks. The files
// are durable; blocks of the disk that are zero are holes. What a fault leaves is
// the caller's to remove.
func Extract(ctx context.Context, dir, to string) error {
	if err := (layout{dir}).extract(ctx, to); err != nil {
		return fmt.Errorf("the Tart artifact %s: %w", dir, err)
	}
	return nil
}

func (l layout) extract(ctx context.Context, to string) error {
	m, chunks, err := l.artifact()
	if err != nil {
		return err
	}
	if err := l.checkSmall("the config", m.Config, checkImageConfig); err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}

	last := len(m.Layers) - 1
	for _, file := range []struct {
		name  string
		layer int
		check func([]byte) error
		mode  os.FileMode
	}{{"config.json", 0, checkConfig, 0o644}, {"nvram.bin", last, checkNVRAM, 0o600}} {
		b, err := l.readChecked(fmt.Sprintf("layer %d", file.layer), m.Layers[file.layer], file.check)
		if err != nil {
			return err
		}
		err = renameio.WriteFile(filepath.Join(to, file.name), b, file.mode, renameio.WithTempDir(to), renameio.WithStaticPermissions(file.mode))
		if err != nil {
			return err
		}
	}
	return l.extractDisk(ctx, chunks, filepath.Join(to, "disk.img"))
}

func (l layout) extractDisk(ctx context.Context, chunks []chunk, path string) error {
	last := chunks[len(chunks)-1]
	size := last.start + last.size
	if err := checkDiskSize(size); err != nil {
		return err
	}
	disk, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer disk.Close()
	if err := errors.Join(disk.Chmod(0o644), disk.Truncate(size)); err != nil {
		return err
	}

	err = eachBlob(chunks, func(same []chunk) error {
		for _, c := range same {
			if err := checkSame(same[0], c); err != nil {
				return err
			}
			to := &dataWriter{to: io.NewOffsetWriter(disk, c.start)}
			if err := l.unpack(ctx, c, to); err != nil {
				return err
			}
			if !to.wrote { // the others are holes, too
				break
			}
		}
		return nil
	})
	return errors.Join(err, disk.Sync())
}

// dataWriter writes a part of a new file, and leaves holes where it is zero.
type dataWriter struct {
	to    *io.OffsetWriter
	wrote bool
}

func (d *dataWriter) Write(b []byte) (int, error) {
	if isZero(b) {
		_, err := d.to.Seek(int64(len(b)), io.SeekCurrent)
		return len(b), err
	}
	d.wrote = true
	return d.to.Write(b)
}
