package setup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"github.com/rockpool/rootvm/guest"
)

const (
	passwordFile = guest.StateDir + "/dashboard-password"
	// hashFile spares each boot the hashing, which is slow on purpose. It
	// holds a fingerprint of the password it belongs to, and the hash.
	hashFile = guest.StateDir + "/dashboard-password.hash"
)

// ensureCredentials leaves Caddy a user name and a bcrypt hash: the host's,
// or those of a password made on the first boot.
func (s *Setup) ensureCredentials(context.Context) (string, error) {
	hash := s.config.Credentials.PasswordHash
	did := "taken from the configuration disk"
	if hash == "" {
		var err error
		if hash, did, err = s.ownPassword(); err != nil {
			return "", err
		}
	}
	env := fmt.Sprintf("ROCKPOOL_USERNAME='%s'\nROCKPOOL_PASSWORD_HASH='%s'\n", s.config.Credentials.Username, hash)
	return did, s.replace(guest.CaddyEnvFile, []byte(env), 0o600, 0, 0)
}

// ownPassword returns the hash of the password in the password file, which
// is made when there is none. Who edits the file changes the password.
func (s *Setup) ownPassword() (hash, did string, err error) {
	owner, err := s.account(guest.ServiceUser)
	if err != nil {
		return "", "", err
	}
	did = "kept"
	b, err := readRegular(s.path(passwordFile), 1<<10)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", "", fmt.Errorf("read dashboard password: %w", err)
	}
	password := strings.TrimSpace(string(b))
	if password == "" {
		did = "made a password: " + passwordFile
		if password, err = makePassword(s.Random); err != nil {
			return "", "", err
		}
		if err := s.replace(passwordFile, []byte(password+"\n"), 0o640, 0, owner.gid); err != nil {
			return "", "", err
		}
	}
	sum := sha256.Sum256([]byte(password))
	mark := hex.EncodeToString(sum[:])
	if b, err := readRegular(s.path(hashFile), 1<<10); err == nil {
		f := strings.Fields(string(b))
		if len(f) == 2 && f[0] == mark && validHash(f[1]) {
			return f[1], did, nil
		}
	}
	h, err := bcrypt.GenerateFromPassword([]byte(password), s.HashCost)
	if err != nil {
		return "", "", fmt.Errorf("hash dashboard password in %s: %w", passwordFile, err)
	}
	return string(h), did, s.replace(hashFile, fmt.Appendf(nil, "%s %s\n", mark, h), 0o600, 0, 0)
}

func validHash(h string) bool {
	_, err := bcrypt.Cost([]byte(h))
	return err == nil && !strings.ContainsAny(h, "'\n")
}

// passwordAlphabet has no two signs that look alike, and 32 of them, so that
// five bits of a random byte choose one evenly.
const passwordAlphabet = "abcdefghijkmnpqrstuvwxyz23456789"

// makePassword returns four groups of seven signs: 140 random bits that can
// be read out and typed.
func makePassword(random io.Reader) (string, error) {
	b := make([]byte, 28)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("make dashboard password: %w", err)
	}
	var p strings.Builder
	for i, c := range b {
		if i > 0 && i%7 == 0 {
			p.WriteByte('-')
		}
		p.WriteByte(passwordAlphabet[c&31])
	}
	return p.String(), nil
}
