package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
	"github.com/google/renameio/v2"

	"github.com/rockpool/rootvm/guest"
)

// WriteConfigDisk writes an ISO9660 image with the volume label ROCKPOOL that
// holds config.json and authorized_keys, replacing path in one step. Only its
// owner can read it.
func WriteConfigDisk(path string, config guest.Config, authorizedKeys string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the configuration disk: %w", err)
		}
	}()
	b, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	collected, err := os.MkdirTemp(filepath.Dir(path), ".config-*") // 0700, for go-diskfs to collect the files in
	if err != nil {
		return err
	}
	defer os.RemoveAll(collected)

	image, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	defer image.Cleanup()
	fs, err := iso9660.Create(file.New(image.File, false), 0, 0, 2048, collected)
	if err != nil {
		return err
	}
	if err := writeTo(fs, "/"+guest.ConfigFile, append(b, '\n')); err != nil {
		return err
	}
	if err := writeTo(fs, "/"+guest.AuthorizedKeysFile, []byte(authorizedKeys)); err != nil {
		return err
	}

	if err := fs.Finalize(iso9660.FinalizeOptions{RockRidge: true, VolumeIdentifier: guest.ConfigLabel}); err != nil {
		return err
	}
	return image.CloseAtomicallyReplace()
}

func writeTo(fs *iso9660.FileSystem, name string, b []byte) error {
	f, err := fs.OpenFile(name, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}
