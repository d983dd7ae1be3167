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

	"github.com/rockpool/rootvm/agent"
)

// writeConfig leaves the daemon what the host said, without the hash.
func (s *Setup) writeConfig(context.Context) (string, error) {
	c := s.config
	c.Credentials.PasswordHash = ""
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode configuration: %w", err)
	}
	return "left for the agent", s.replace(RunDir+"/"+configFile, append(b, '\n'), 0o644, 0, 0)
}

// ReadResult returns the configuration that a run of [Setup] left in dir, as
// [ReadConfig] does. When the data disk could not be used, the error says
// why: a daemon that started all the same would show an empty Rockpool.
func ReadResult(fsys fs.FS, dir string) (agent.GuestConfig, error) {
	b, err := fs.ReadFile(fsys, path.Join(dir, dataErrorFile))
	if err == nil {
		return agent.GuestConfig{}, fmt.Errorf("the data disk cannot be used: %s", strings.TrimSpace(string(b)))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return agent.GuestConfig{}, fmt.Errorf("read the result of setup: %w", err)
	}
	return ReadConfig(fsys, dir)
}

// ReadConfig returns the configuration that a run of [Setup] left in dir, the
// defaults when it left none.
func ReadConfig(fsys fs.FS, dir string) (agent.GuestConfig, error) {
	b, err := fs.ReadFile(fsys, path.Join(dir, configFile))
	if errors.Is(err, fs.ErrNotExist) {
		var c agent.GuestConfig
		c.FillDefaults()
		return c, nil
	}
	if err != nil {
		return agent.GuestConfig{}, fmt.Errorf("read the result of setup: %w", err)
	}
	return agent.DecodeGuestConfig(bytes.NewReader(b))
}
