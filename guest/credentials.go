package guest

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Credentials of the system, by which a host without a configuration disk says
// what that would say. systemd takes them over from SMBIOS strings
// (io.systemd.credential:NAME=VALUE, io.systemd.credential.binary:NAME=BASE64)
// and QEMU's fw_cfg (opt/io.systemd.credentials/NAME) into a directory that only
// root can read; see https://systemd.io/CREDENTIALS. The configuration disk wins
// for whatever it names.
const (
	SystemCredentialsDir = "/run/credentials/@system"

	// CredentialKeys holds the keys of [AdminUser], as [AuthorizedKeysFile].
	CredentialKeys = "ssh.authorized_keys." + AdminUser
	// CredentialRootKeys is the name of systemd's own for the same. root cannot
	// log in by SSH here, so the keys are those of [AdminUser], who has sudo.
	CredentialRootKeys = "ssh.authorized_keys.root"
	// CredentialHostname is systemd's own name for [Config.Hostname].
	CredentialHostname = "system.hostname"

	CredentialUsername     = "rockpool.dashboard.username"
	CredentialPassword     = "rockpool.dashboard.password"      // see [CheckPassword]
	CredentialPasswordHash = "rockpool.dashboard.password-hash" // bcrypt
)

// Bounds of a password, in bytes. The upper one is bcrypt's.
const (
	MinPassword = 8
	MaxPassword = 72
)

// CheckHostname refuses what is not one label of a host's name.
func CheckHostname(name string) error {
	if !hostnamePattern.MatchString(name) {
		return fmt.Errorf("%.80q is not a host name of 1 to 63 letters a-z, digits and dashes", name)
	}
	return nil
}

// CheckUsername refuses what the dashboard's user cannot be called.
func CheckUsername(name string) error {
	if !usernamePattern.MatchString(name) {
		return fmt.Errorf("%.80q is not a name of 1 to 64 letters, digits, dots and dashes", name)
	}
	return nil
}

// CheckPasswordHash refuses what is not bcrypt's. The error does not repeat it.
func CheckPasswordHash(hash string) error {
	if !bcryptPattern.MatchString(hash) {
		return errors.New("is not a bcrypt hash")
	}
	return nil
}

// CheckPassword refuses a password that the dashboard's cannot be. The error does
// not repeat it.
func CheckPassword(password string) error {
	switch {
	case len(password) < MinPassword:
		return fmt.Errorf("is shorter than %d bytes", MinPassword)
	case len(password) > MaxPassword:
		return fmt.Errorf("is longer than %d bytes: give its bcrypt hash in %s", MaxPassword, CredentialPasswordHash)
	case !utf8.ValidString(password):
		return errors.New("is not UTF-8 text")
	}
	for _, r := range password {
		if unicode.IsControl(r) {
			return errors.New("holds a control character, such as the end of a line")
		}
	}
	return nil
}
