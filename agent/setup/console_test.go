package setup

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/guest"
)

// TestSetup_writeConsole: a password is on the console only when nobody could
// get in otherwise.
func TestSetup_writeConsole(t *testing.T) {
	const own = "aaaaaaa-aaaaaaa-aaaaaaa-aaaaaaa"
	for name, tt := range map[string]struct {
		given map[string]string
		has   []string
		hasnt []string
	}{
		"nothing given": {nil,
			[]string{"as admin with the password " + own, "once a key is given", "-smbios type=11,value=io.systemd.credential:ssh.authorized_keys.admin="}, nil},
		"a key": {map[string]string{"ssh.authorized_keys.admin": keyA},
			[]string{"as admin with the password in /opt/rockpool/dashboard-password", "with the key that this VM was given"}, []string{own, "-smbios"}},
		"a password": {map[string]string{"rockpool.dashboard.password": "SECRET12", "rockpool.dashboard.username": "me"},
			[]string{"as me with the password that this VM was given", "-smbios"}, []string{own, "SECRET12"}},
		"a hash": {map[string]string{"rockpool.dashboard.password-hash": hashOf(t, "SECRET12")},
			[]string{"with the password that this VM was given"}, []string{own, "$2a$"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			for name, value := range tt.given {
				g.credential(name, value)
			}
			must(t, g.run())
			text := g.read(guest.ConsoleFile)
			for _, s := range tt.has {
				if !strings.Contains(text, s) {
					t.Errorf("%q is missing:\n%s", s, text)
				}
			}
			for _, s := range tt.hasnt {
				if strings.Contains(text, s) {
					t.Errorf("%q is shown:\n%s", s, text)
				}
			}
			st, err := os.Stat(filepath.Join(g.root, guest.ConsoleFile))
			must(t, err)
			if st.Mode().Perm() != 0o600 {
				t.Errorf("mode %v", st.Mode())
			}
		})
	}
	t.Run("a key of a boot before", func(t *testing.T) {
		g := newGuest(t)
		g.configDisk(map[string]string{"config.json": `{"version":1}`, "authorized_keys": keyA + "\n"})
		must(t, g.run())
		g.reboot()
		must(t, os.RemoveAll(filepath.Join(g.root, "sys/block/vdz")))
		must(t, g.run())
		if text := g.read(guest.ConsoleFile); strings.Contains(text, own) {
			t.Errorf("the password is shown although there is a key:\n%s", text)
		}
	})
	t.Run("an edited password", func(t *testing.T) {
		g := newGuest(t)
		must(t, g.run())
		g.reboot()
		g.write("opt/rockpool/dashboard-password", "my own\n")
		must(t, g.run())
		if text := g.read(guest.ConsoleFile); !strings.Contains(text, "the password my own\n") {
			t.Errorf("%q", text)
		}
		g.reboot()
		g.write("opt/rockpool/dashboard-password", "my\x1b[2Jown\n") // would command the terminal
		if err := g.run(); err == nil {
			t.Error("no fault")
		}
		if text := g.read(guest.ConsoleFile); strings.Contains(text, "\x1b") || !strings.Contains(text, "the password that was valid before") {
			t.Errorf("%q", text)
		}
	})
}

// screen is a console of a test.
type screen struct {
	text   strings.Builder
	broken error
}

func (s *screen) Write(b []byte) (int, error) {
	if s.broken != nil {
		return 0, s.broken
	}
	return s.text.Write(b)
}

func (s *screen) Close() error { return nil }

func TestConsole_Show(t *testing.T) {
	g := newGuest(t)
	g.write("sys/class/tty/console/active", "tty0 hvc0 ttyS0\n")
	g.write(guest.ConsoleFile, "  log in     here\n")
	screens := map[string]*screen{"/dev/tty0": {}, "/dev/hvc0": {broken: errors.New("nobody listens")}, "/dev/ttyS0": {}}
	seconds := 0 // of the clock
	c := &Console{
		Root:   g.root,
		Ports:  guest.Ports{Dashboard: 9280},
		Serves: func(context.Context) bool { return seconds >= 2 },
		Addresses: func() ([]netip.Addr, error) {
			if seconds < 5 {
				return nil, nil
			}
			return []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}, nil
		},
		Open:     func(path string) (io.WriteCloser, error) { return screens[path], nil },
		Wait:     func(_ context.Context, d time.Duration) error { seconds += int(d / time.Second); return nil },
		Now:      func() time.Time { return time.Unix(int64(seconds), 0) },
		Patience: 10 * time.Second,
	}
	if err := c.Show(t.Context()); err == nil || !strings.Contains(err.Error(), "console /dev/hvc0: nobody listens") {
		t.Errorf("error: %v", err)
	}
	if seconds != 5 {
		t.Errorf("waited %d s", seconds)
	}
	want := `
Rockpool Root VM
  dashboard  http://localhost:9280/ where the host forwards the port
             http://192.0.2.7:8080/
             http://[2001:db8::7]:8080/
  log in     here

`
	for _, path := range []string{"/dev/tty0", "/dev/ttyS0"} {
		if got := screens[path].text.String(); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}

	seconds = 0
	screens["/dev/ttyS0"].broken = &os.PathError{Op: "write", Path: "/dev/ttyS0", Err: unix.EIO} // there is no such port
	c.Serves = func(context.Context) bool { return false }
	*screens["/dev/tty0"], *screens["/dev/hvc0"] = screen{}, screen{}
	must(t, c.Show(t.Context()))
	if seconds != 10 {
		t.Errorf("waited %d s for a dashboard that does not come", seconds)
	}
	if got := screens["/dev/tty0"].text.String(); !strings.Contains(got, "dashboard  does not answer: journalctl") || !strings.Contains(got, "log in     here") {
		t.Errorf("without a dashboard: %q", got)
	}

	const look = 5 // seconds until a look at a dashboard that is silent ends
	seconds = 0
	c.Serves = func(context.Context) bool { seconds += look; return false }
	must(t, c.Show(t.Context()))
	if seconds > 10+look {
		t.Errorf("waited %d s for a dashboard that is silent", seconds)
	}

	seconds = 0
	c.Serves = func(context.Context) bool { return true }
	c.Addresses = func() ([]netip.Addr, error) { return nil, nil }
	*screens["/dev/tty0"] = screen{}
	must(t, c.Show(t.Context()))
	if got := screens["/dev/tty0"].text.String(); seconds != int(addressPatience/time.Second) || !strings.Contains(got, "localhost:9280") {
		t.Errorf("without a network: %q after %d s", got, seconds)
	}
}
