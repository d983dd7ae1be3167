package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/rockpool/rootvm/guest"
)

// account is one line of /etc/passwd.
type account struct {
	name     string
	uid, gid int
	home     string
}

// account looks a user up in the guest's own file: no other source of users
// is there this early.
func (s *Setup) account(name string) (account, error) {
	list, err := s.accounts()
	if err != nil {
		return account{}, err
	}
	for _, a := range list {
		if a.name == name {
			return a, nil
		}
	}
	return account{}, fmt.Errorf("user %s is missing from /etc/passwd: build the image again", name)
}

func (s *Setup) accounts() ([]account, error) {
	b, err := os.ReadFile(s.path("/etc/passwd"))
	if err != nil {
		return nil, fmt.Errorf("read accounts: %w", err)
	}
	var list []account
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) != 7 {
			continue
		}
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err1 == nil && err2 == nil {
			list = append(list, account{name: f[0], uid: uid, gid: gid, home: f[5]})
		}
	}
	return list, nil
}

// renumberLogin gives the SSH user the ids of the person who owns the shared
// directory, so that files made on either side belong to the same person
// ([guest.AdminIDFor]); one that has none keeps what it has.
// The home directory comes first and /etc/passwd last: a cut between leaves a
// state from which the next boot goes on.
func (s *Setup) renumberLogin(context.Context) (string, error) {
	login, err := s.account(guest.AdminUser)
	if err != nil {
		return "", err
	}
	uid, gid := login.uid, login.gid
	if s.config.UID >= guest.AdminID {
		uid = int(s.config.UID)
	}
	if s.config.GID >= guest.AdminID {
		gid = int(s.config.GID)
	}
	if uid == login.uid && gid == login.gid {
		return fmt.Sprintf("%s has uid %d, gid %d", guest.AdminUser, uid, gid), nil
	}
	if err := s.freeID(uid, gid, login); err != nil {
		return "", err
	}
	if err := s.chownTree(login.home, login, uid, gid); err != nil {
		return "", err
	}
	if gid != login.gid {
		if err := s.editAccounts("/etc/group", guest.AdminUser, map[int]int{2: gid}); err != nil {
			return "", err
		}
	}
	if err := s.editAccounts("/etc/passwd", guest.AdminUser, map[int]int{2: uid, 3: gid}); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s now has uid %d, gid %d", guest.AdminUser, uid, gid), nil
}

// freeID makes sure that nobody else has the ids: no account, no group, and
// no range of ids that containers run as.
func (s *Setup) freeID(uid, gid int, login account) error {
	list, err := s.accounts()
	if err != nil {
		return err
	}
	for _, a := range list {
		if a.uid == uid && a.name != login.name {
			return fmt.Errorf("uid %d of the host's user belongs to %s in the VM, so %s keeps uid %d: files in %s may show another owner", uid, a.name, login.name, login.uid, guest.ShareDir)
		}
	}
	groups, err := os.ReadFile(s.path("/etc/group"))
	if err != nil {
		return fmt.Errorf("read groups: %w", err)
	}
	for line := range strings.Lines(string(groups)) {
		f := strings.Split(line, ":")
		if len(f) == 4 && f[2] == strconv.Itoa(gid) && f[0] != login.name {
			return fmt.Errorf("gid %d of the host's user belongs to group %s in the VM, so %s keeps gid %d: files in %s may show another group", gid, f[0], login.name, login.gid, guest.ShareDir)
		}
	}
	for _, r := range []struct {
		file string
		id   int
	}{{"/etc/subuid", uid}, {"/etc/subgid", gid}} {
		if err := s.outsideRanges(r.file, r.id); err != nil {
			return err
		}
	}
	return nil
}

// outsideRanges refuses an id inside a range of subordinate ids (subuid(5)).
func (s *Setup) outsideRanges(file string, id int) error {
	b, err := os.ReadFile(s.path(file))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read subordinate ids: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 {
			continue
		}
		first, err1 := strconv.Atoi(f[1])
		count, err2 := strconv.Atoi(f[2])
		if err1 == nil && err2 == nil && id >= first && id-first < count {
			return fmt.Errorf("id %d of the host's user lies in the range that containers use (%s), so %s keeps its id", id, file, guest.AdminUser)
		}
	}
	return nil
}

// chownTree gives what belongs to the old ids below dir to the new ones.
func (s *Setup) chownTree(dir string, old account, uid, gid int) error {
	err := filepath.WalkDir(s.path(dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sys := info.Sys().(*syscall.Stat_t)
		newUID, newGID := int(sys.Uid), int(sys.Gid)
		if newUID == old.uid {
			newUID = uid
		}
		if newGID == old.gid {
			newGID = gid
		}
		if newUID == int(sys.Uid) && newGID == int(sys.Gid) {
			return nil
		}
		return s.Kernel.Chown(path, newUID, newGID)
	})
	if err != nil {
		return fmt.Errorf("change owner of %s: %w", dir, err)
	}
	return nil
}

// editAccounts sets numeric fields of one line of /etc/passwd or /etc/group.
func (s *Setup) editAccounts(file, name string, set map[int]int) error {
	b, err := os.ReadFile(s.path(file))
	if err != nil {
		return fmt.Errorf("read accounts: %w", err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		f := strings.Split(line, ":")
		if f[0] == name && len(f) >= 4 {
			for i, v := range set {
				f[i] = strconv.Itoa(v)
			}
			line = strings.Join(f, ":")
		}
		out.WriteString(line)
	}
	return s.replaceIfChanged(file, []byte(out.String()), 0o644, 0, 0)
}

// writeAuthorizedKeys lets the host's keys, and only those, in.
func (s *Setup) writeAuthorizedKeys(context.Context) (string, error) {
	if s.authorizedKeys == nil {
		return "none given: left as they are", nil
	}
	login, err := s.account(guest.AdminUser)
	if err != nil {
		return "", err
	}
	dir := login.home + "/.ssh"
	if err := s.ensureDir(dir, 0o700, login.uid, login.gid); err != nil {
		return "", err
	}
	if err := s.replaceIfChanged(dir+"/"+guest.AuthorizedKeysFile, s.authorizedKeys, 0o600, login.uid, login.gid); err != nil {
		return "", err
	}
	return "written for " + guest.AdminUser, nil
}
