package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/guest"
)

const (
	maxKeys     = 64 << 10 // bytes of authorized_keys
	configMount = guest.SetupRunDir + "/disk"
)

// readConfigDisk takes over what the host says. What the disk does not name is as
// the credentials of the system say, else the default; keys that are there
// already stay.
func (s *Setup) readConfigDisk(context.Context) (string, error) {
	d, kind, err := s.findConfigDisk()
	if err != nil {
		return "", err
	}
	if d.path == "" {
		return "none", nil
	}
	dir := s.path(configMount)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("mount configuration disk: %w", err)
	}
	flags := uintptr(unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC)
	if err := s.Kernel.Mount(d.path, configMount, kind, flags, ""); err != nil {
		return "", fmt.Errorf("mount configuration disk %s: %w", d.path, err)
	}
	err = s.readConfig(dir)
	if u := s.Kernel.Unmount(configMount); u != nil {
		err = errors.Join(err, fmt.Errorf("unmount configuration disk: %w", u))
	}
	if err != nil {
		return "", fmt.Errorf("configuration disk %s: %w", d.path, err)
	}
	return "read " + d.path, nil
}

func (s *Setup) findConfigDisk() (device, string, error) {
	all, err := s.devices()
	if err != nil {
		return device{}, "", err
	}
	// Drives come last, for they are slow.
	slices.SortStableFunc(all, func(a, b device) int {
		switch {
		case a.drive == b.drive:
			return 0
		case a.drive:
			return 1
		}
		return -1
	})
	for _, d := range all {
		if d.root || d.size == 0 {
			continue
		}
		f, err := os.Open(s.path(d.path))
		if err != nil {
			continue // a drive without a medium
		}
		head := make([]byte, 34<<10)
		n, _ := f.ReadAt(head, 0) // what is short is not ours
		_ = f.Close()
		c, ok := fileSystem(head[:n])
		if ok && (c.kind == kindISO || c.kind == kindFAT) && c.label == guest.ConfigLabel {
			return d, c.kind, nil
		}
	}
	return device{}, "", nil
}

// readConfig reads both files; a fault in one does not spoil the other.
func (s *Setup) readConfig(dir string) error {
	keys, keysErr := readAnyCase(dir, guest.AuthorizedKeysFile, maxKeys)
	if keysErr == nil && keys != nil {
		keysErr = checkKeys(keys)
	}
	if keysErr == nil && keys != nil {
		s.authorizedKeys = keys
	}
	b, err := readAnyCase(dir, guest.ConfigFile, guest.MaxConfigSize)
	if err == nil && b == nil {
		err = errors.New("config.json is missing: start the VM with the launcher of this release")
	}
	if err == nil {
		var c guest.Config
		if c, err = guest.DecodeConfigOver(s.config, bytes.NewReader(b)); err == nil {
			s.config = c
		}
	}
	return errors.Join(err, keysErr)
}

// readAnyCase reads a small file whose name a plain ISO 9660 disk may have
// written in capitals. An absent file is nil.
func readAnyCase(dir, name string, limit int64) ([]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	i := slices.IndexFunc(entries, func(e os.DirEntry) bool { return strings.EqualFold(e.Name(), name) })
	if i < 0 {
		return nil, nil
	}
	b, err := readRegular(filepath.Join(dir, entries[i].Name()), limit+1)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return b, nil
}

// checkKeys accepts text with at least one line that looks like a key; sshd
// itself passes over lines it does not understand.
func checkKeys(b []byte) error {
	if !utf8.Valid(b) || bytes.ContainsRune(b, 0) {
		return errors.New("authorized_keys is not text")
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") && keyLine(line) {
			return nil
		}
	}
	return errors.New("authorized_keys holds no key: nobody could log in by SSH")
}

// keyLine reports whether a line holds a key type followed by its data
// (sshd(8), AUTHORIZED_KEYS FILE FORMAT: base64 that begins with a length).
func keyLine(line string) bool {
	f := strings.Fields(line)
	for i := range len(f) - 1 {
		known := strings.HasPrefix(f[i], "ssh-") || strings.HasPrefix(f[i], "ecdsa-") || strings.HasPrefix(f[i], "sk-")
		if known && strings.HasPrefix(f[i+1], "AAAA") {
			return true
		}
	}
	return false
}
