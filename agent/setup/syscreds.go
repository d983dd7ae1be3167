package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rockpool/rootvm/guest"
)

// maxCredential bounds a credential that is one line, in bytes.
const maxCredential = 1 << 10

// systemCredential is one of those that a host without a configuration disk can
// give. take checks the value and takes it over.
type systemCredential struct {
	name  string
	limit int64
	take  func(value []byte) error
}

// readSystemCredentials takes over what the hypervisor says by SMBIOS or fw_cfg.
// A bad one is refused; the others still apply.
//
// The directory is read itself, as systemd-creds --system does, rather than
// through LoadCredential= or ImportCredential=: those show a service its
// credentials on a mount of its own, while the set-up's mounts must be
// everybody's, and Debian 12 does not have the latter.
func (s *Setup) readSystemCredentials(context.Context) (string, error) {
	var given, faults []string
	for _, c := range s.systemCredentials() {
		value, err := readRegular(filepath.Join(s.path(guest.SystemCredentialsDir), c.name), c.limit+1)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil && int64(len(value)) > c.limit {
			err = fmt.Errorf("is larger than %d bytes", c.limit)
		}
		if err == nil {
			err = c.take(value)
		}
		if err != nil {
			faults = append(faults, fmt.Sprintf("credential %s %v", c.name, err))
			continue
		}
		given = append(given, c.name)
	}

	if s.password != "" && s.config.Credentials.PasswordHash != "" {
		faults = append(faults, fmt.Sprintf("credentials %s and %s were both given, and the latter is used: give one", guest.CredentialPassword, guest.CredentialPasswordHash))
	}
	if faults != nil {
		return "", errors.New(strings.Join(faults, "; "))
	}
	if given == nil {
		return "none", nil
	}
	return "taken: " + strings.Join(given, ", "), nil
}

func (s *Setup) systemCredentials() []systemCredential {
	login := &s.config.Credentials
	return []systemCredential{
		{guest.CredentialKeys, maxKeys, s.takeKeys},
		{guest.CredentialRootKeys, maxKeys, s.takeKeys},
		{guest.CredentialHostname, maxCredential, takeLine(&s.config.Hostname, guest.CheckHostname)},
		{guest.CredentialUsername, maxCredential, takeLine(&login.Username, guest.CheckUsername)},
		{guest.CredentialPassword, maxCredential, takeLine(&s.password, guest.CheckPassword)},
		{guest.CredentialPasswordHash, maxCredential, takeLine(&login.PasswordHash, guest.CheckPasswordHash)},
	}
}

// takeKeys adds keys: who is named by either credential gets in.
func (s *Setup) takeKeys(value []byte) error {
	if err := checkKeys(value); err != nil {
		return fmt.Errorf("is no list of keys: %w", err)
	}
	s.authorizedKeys = append(s.authorizedKeys, append(bytes.TrimRight(value, "\n"), '\n')...)
	return nil
}

// takeLine sets field to a value that passes check. A file that the value comes
// from may end its line.
func takeLine(field *string, check func(string) error) func([]byte) error {
	return func(value []byte) error {
		line := strings.TrimSuffix(strings.TrimSuffix(string(value), "\n"), "\r")
		if err := check(line); err != nil {
			return err
		}
		*field = line
		return nil
	}
}
