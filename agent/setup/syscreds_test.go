package setup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/rockpool/rootvm/guest"
)

const (
	keyA = "ssh-ed25519 AAAAC3NzA a@host"
	keyB = "ssh-ed25519 AAAAC3NzB b@host"
)

// credential gives one as the hypervisor would.
func (g *machine) credential(name, value string) {
	g.t.Helper()
	g.write(guest.SystemCredentialsDir+"/"+name, value)
}

// login is what the agent was left: the user, and whether the password is right.
func (g *machine) login(password string) (user string, right bool) {
	g.t.Helper()
	config, err := ReadConfig(os.DirFS(g.root), "run/rockpool-setup")
	must(g.t, err)
	hash := strings.TrimSpace(g.read(guest.PasswordHashFile))
	return config.Credentials.Username, bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
}

func hashOf(t *testing.T, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	must(t, err)
	return string(h)
}

func TestSetup_readSystemCredentials(t *testing.T) {
	t.Run("all", func(t *testing.T) {
		g := newGuest(t)
		g.credential("ssh.authorized_keys.admin", keyA)
		g.credential("ssh.authorized_keys.root", keyB+"\n")
		g.credential("system.hostname", "box\n")
		g.credential("rockpool.dashboard.username", "me")
		g.credential("rockpool.dashboard.password", "correct horse, 'battery'\n")
		g.credential("somebody.else", "x")
		must(t, g.run())

		if got := g.read("home/admin/.ssh/authorized_keys"); got != keyA+"\n"+keyB+"\n" {
			t.Errorf("authorized_keys: %q", got)
		}
		if got := g.read("etc/hostname"); got != "box\n" {
			t.Errorf("host name: %q", got)
		}
		if user, right := g.login("correct horse, 'battery'"); user != "me" || !right {
			t.Errorf("user %q, password right: %v", user, right)
		}
		if _, err := os.Stat(filepath.Join(g.root, passwordFile)); !os.IsNotExist(err) {
			t.Errorf("a password was made although one was given: %v", err)
		}
		if c := g.read("run/rockpool-setup/config.json"); strings.Contains(c, "assword") || !strings.Contains(c, `"me"`) {
			t.Errorf("left for the agent: %s", c)
		}
	})
	t.Run("hash", func(t *testing.T) {
		g := newGuest(t)
		hash := hashOf(t, "secret12")
		g.credential("rockpool.dashboard.password-hash", hash)
		must(t, g.run())
		if got := g.read(guest.PasswordHashFile); got != hash+"\n" {
			t.Errorf("hash: %q", got)
		}
	})
	t.Run("the configuration disk wins for what it names", func(t *testing.T) {
		g := newGuest(t)
		for name, value := range map[string]string{
			"ssh.authorized_keys.admin": keyA, "system.hostname": "box",
			"rockpool.dashboard.username": "me", "rockpool.dashboard.password": "of-the-credential",
		} {
			g.credential(name, value)
		}
		g.configDisk(map[string]string{
			"authorized_keys": keyB + "\n",
			"config.json":     fmt.Sprintf(`{"version":1,"credentials":{"username":"host","passwordHash":%q}}`, hashOf(t, "of-the-disk")),
		})
		must(t, g.run())
		if got := g.read("home/admin/.ssh/authorized_keys"); got != keyB+"\n" {
			t.Errorf("authorized_keys: %q", got)
		}
		if user, right := g.login("of-the-disk"); user != "host" || !right {
			t.Errorf("user %q, password right: %v", user, right)
		}
		if got := g.read("etc/hostname"); got != "box\n" {
			t.Errorf("host name, which the disk does not name: %q", got)
		}
	})
	t.Run("kept when the next boot gives none", func(t *testing.T) {
		g := newGuest(t)
		g.credential("ssh.authorized_keys.admin", keyA)
		must(t, g.run())
		g.reboot()
		must(t, g.run())
		if got := g.read("home/admin/.ssh/authorized_keys"); got != keyA+"\n" {
			t.Errorf("authorized_keys: %q", got)
		}
	})
}

// TestSetup_readSystemCredentials_bad: a bad one is refused in one line that
// names it and repeats no secret, and the rest applies.
func TestSetup_readSystemCredentials_bad(t *testing.T) {
	for name, tt := range map[string]struct{ name, value, err string }{
		"no key":         {"ssh.authorized_keys.admin", "# nothing\n", "holds no key"},
		"binary keys":    {"ssh.authorized_keys.admin", keyA + "\x00", "is not text"},
		"many keys":      {"ssh.authorized_keys.admin", strings.Repeat(keyA+"\n", 4000), "is larger than 65536 bytes"},
		"host name":      {"system.hostname", "a b", `"a b" is not a host name`},
		"user name":      {"rockpool.dashboard.username", "it's", "is not a name of 1 to 64"},
		"empty user":     {"rockpool.dashboard.username", "", "is not a name of 1 to 64"},
		"short password": {"rockpool.dashboard.password", "SECRET1\n", "is shorter than 8 bytes"},
		"long password":  {"rockpool.dashboard.password", strings.Repeat("SECRET", 13), "is longer than 72 bytes"},
		"huge password":  {"rockpool.dashboard.password", strings.Repeat("SECRET", 1000), "is larger than 1024 bytes"},
		"two lines":      {"rockpool.dashboard.password", "SECRET12\nSECRET34", "holds a control character"},
		"not text":       {"rockpool.dashboard.password", "SECRET12\xff", "is not UTF-8 text"},
		"hash":           {"rockpool.dashboard.password-hash", "$6$SECRET", "is not a bcrypt hash"},
		"quote in hash":  {"rockpool.dashboard.password-hash", "$2y$10$'SECRET" + strings.Repeat("a", 46), "is not a bcrypt hash"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.credential("ssh.authorized_keys.root", keyB)
			g.credential(tt.name, tt.value)
			err := g.run()
			if err == nil || !strings.HasPrefix(err.Error(), "system-credentials: credential "+tt.name+" ") || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error: %v", err)
			}
			if strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error: %v", err)
			}
			if got := g.read("home/admin/.ssh/authorized_keys"); got != keyB+"\n" {
				t.Errorf("authorized_keys: %q", got)
			}
			if user, right := g.login("aaaaaaa-aaaaaaa-aaaaaaa-aaaaaaa"); user != "admin" || !right {
				t.Errorf("user %q, own password right: %v", user, right)
			}
			if got := g.read("etc/hostname"); got != "rockpool-root\n" {
				t.Errorf("host name: %q", got)
			}
		})
	}
	t.Run("both", func(t *testing.T) {
		g := newGuest(t)
		g.credential("rockpool.dashboard.password", "SECRET12")
		g.credential("rockpool.dashboard.password-hash", hashOf(t, "the hash's"))
		if err := g.run(); err == nil || !strings.Contains(err.Error(), "were both given") || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("error: %v", err)
		}
		if _, right := g.login("the hash's"); !right {
			t.Error("the hash does not apply")
		}
	})
	t.Run("link", func(t *testing.T) {
		g := newGuest(t)
		must(t, os.MkdirAll(filepath.Join(g.root, guest.SystemCredentialsDir), 0o755))
		must(t, os.Symlink("/etc/shadow", filepath.Join(g.root, guest.SystemCredentialsDir, "ssh.authorized_keys.admin")))
		if err := g.run(); err == nil || !strings.Contains(err.Error(), "credential ssh.authorized_keys.admin ") {
			t.Errorf("error: %v", err)
		}
	})
}
