package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"

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
	work, err := os.MkdirTemp(filepath.Dir(path), ".config-*") // 0700, for go-diskfs to collect the files in
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	image, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(path + ".new")
	defer image.Close()
	fs, err := iso9660.Create(file.New(image, false), 0, 0, 2048, work)
	if err != nil {
		return err
	}
	err = errors.Join(
		writeTo(fs, "/"+guest.ConfigFile, append(b, '\n')),
		writeTo(fs, "/"+guest.AuthorizedKeysFile, []byte(authorizedKeys)),
	)
	if err != nil {
		return err
	}
	if err := fs.Finalize(iso9660.FinalizeOptions{RockRidge: true, VolumeIdentifier: guest.ConfigLabel}); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func writeTo(fs *iso9660.FileSystem, name string, b []byte) error {
	f, err := fs.OpenFile(name, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}
