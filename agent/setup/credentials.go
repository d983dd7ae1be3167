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
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"

	"github.com/rockpool/rootvm/guest"
)

const (
	passwordFile = guest.PasswordFile
	// hashFile spares each boot the hashing, which is slow on purpose. It
	// holds a fingerprint of the password it belongs to, and the hash.
	hashFile = guest.StateDir + "/dashboard-password.hash"
)

// ensureCredentials leaves the agent the hash of the password, by bcrypt: the
// host's, or that of a password made on the first boot. A password file that is
// of no use is a fault, and the hash that was valid last stays, so that its user
// is not locked out.
func (s *Setup) ensureCredentials(context.Context) (string, error) {
	owner, err := s.account(guest.ServiceUser)
	if err != nil {
		return "", err
	}
	hash, did, fault := s.dashboardHash(owner.gid)
	if hash == "" {
		return "", fault
	}
	return did, errors.Join(fault, s.replace(guest.PasswordHashFile, []byte(hash+"\n"), 0o640, 0, owner.gid))
}

// dashboardHash returns the hash of the password, which the host gave, or gave in
// clear, or neither. With an error it may return one all the same, as
// [Setup.ownPassword] does.
func (s *Setup) dashboardHash(group int) (hash, did string, err error) {
	if hash = s.config.Credentials.PasswordHash; hash != "" {
		return hash, "hash given by the host", nil
	}
	if s.password == "" {
		return s.ownPassword(group)
	}

	// No copy of the password, nor of anything that is quicker to try than
	// bcrypt, is left on a disk, so each boot hashes it again.
	b, err := bcrypt.GenerateFromPassword([]byte(s.password), s.HashCost)
	if err != nil {
		return "", "", fmt.Errorf("hash the given dashboard password: %w", err)
	}
	return string(b), "password given by the host", nil
}

// passwordGiven reports whether the host says by which password one gets in.
func (s *Setup) passwordGiven() bool {
	return s.password != "" || s.config.Credentials.PasswordHash != ""
}

// ownPassword returns the hash of the password in the password file, which
// is made when there is none. Who edits the file changes the password. With an
// error, the hash is the last that was valid, if there was one.
func (s *Setup) ownPassword(group int) (hash, did string, err error) {
	mark, last := s.lastHash()
	password, err := s.readPassword()
	if err != nil {
		return last, "", fmt.Errorf("%w: write one line of 1 to %d bytes into it; until then the password before it counts", err, guest.MaxPassword)
	}
	did = "kept"
	if password == "" {
		did = "made a password: " + passwordFile
		if password, err = makePassword(s.Random); err != nil {
			return "", "", err
		}
		if err := s.replace(passwordFile, []byte(password+"\n"), 0o640, 0, group); err != nil {
			return "", "", err
		}
	}

	sum := sha256.Sum256([]byte(password))
	if now := hex.EncodeToString(sum[:]); now != mark || last == "" {
		h, err := bcrypt.GenerateFromPassword([]byte(password), s.HashCost)
		if err != nil {
			return last, "", fmt.Errorf("hash dashboard password in %s: %w", passwordFile, err)
		}
		return string(h), did, s.replace(hashFile, fmt.Appendf(nil, "%s %s\n", now, h), 0o600, 0, 0)
	}
	return last, did, nil
}

// readPassword returns what the password file holds, "" when there is none.
func (s *Setup) readPassword() (string, error) {
	b, err := readRegular(s.path(passwordFile), 1<<10)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read dashboard password: %w", err)
	}
	password := strings.TrimSpace(string(b))
	if len(password) > guest.MaxPassword || !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl) {
		return "", fmt.Errorf("%s holds no password", passwordFile)
	}
	return password, nil
}

// lastHash returns the hash that was made last and the mark of its password.
func (s *Setup) lastHash() (mark, hash string) {
	b, err := readRegular(s.path(hashFile), 1<<10)
	f := strings.Fields(string(b))
	if err != nil || len(f) != 2 || !validHash(f[1]) {
		return "", ""
	}
	return f[0], f[1]
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
