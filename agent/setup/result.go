package setup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/rockpool/rootvm/guest"
)

// writeConfig leaves the daemon what the host said, without the hash.
func (s *Setup) writeConfig(context.Context) (string, error) {
	c := s.config
	c.Credentials.PasswordHash = ""
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode configuration: %w", err)
	}
	return "left for the agent", s.replace(guest.SetupRunDir+"/"+guest.ConfigFile, append(b, '\n'), 0o644, 0, 0)
}

// ReadResult returns the configuration that a run of [Setup] left in dir, as
// [ReadConfig] does. When the data disk could not be used, the error says
// why: a daemon that started all the same would show an empty Rockpool.
func ReadResult(fsys fs.FS, dir string) (guest.Config, error) {
	b, err := fs.ReadFile(fsys, path.Join(dir, dataErrorFile))
	if err == nil {
		return guest.Config{}, fmt.Errorf("the data disk cannot be used: %s", strings.TrimSpace(string(b)))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return guest.Config{}, fmt.Errorf("read the result of setup: %w", err)
	}
	return ReadConfig(fsys, dir)
}

// ReadConfig returns the configuration that a run of [Setup] left in dir, the
// defaults when it left none.
func ReadConfig(fsys fs.FS, dir string) (guest.Config, error) {
	b, err := fs.ReadFile(fsys, path.Join(dir, guest.ConfigFile))
	if errors.Is(err, fs.ErrNotExist) {
		var c guest.Config
		c.FillDefaults()
		return c, nil
	}
	if err != nil {
		return guest.Config{}, fmt.Errorf("read the result of setup: %w", err)
	}
	return guest.DecodeConfig(bytes.NewReader(b))
}
