package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/guest"
)

// giveKey is how a key is given to a VM that QEMU runs.
const giveKey = `-smbios type=11,value=io.systemd.credential:` + guest.CredentialKeys + `="$(cat KEY.pub)"`

// writeConsole leaves the text about how to get in for [Console], readable by
// root alone. It holds a password only when nobody could get in otherwise: none
// was given and no key ever was. Who reads the console then is who runs the VM
// and could as well read its disk.
func (s *Setup) writeConsole(context.Context) (string, error) {
	keys, err := s.hasKeys()
	if err != nil {
		return "", err
	}

	did, password := "", ""
	switch {
	case s.passwordGiven():
		did, password = "password was given", "the password that this VM was given"
	case keys:
		did, password = "password is left to those with a key", "the password in "+passwordFile+" (sudo cat, in a shell)"
	default:
		own, err := s.readPassword()
		if err != nil {
			own = "that was valid before (" + passwordFile + " holds none)"
		}
		did = "shows the password: neither one nor a key was given"
		password = "the password " + own + "\n" +
			"             (made by this VM, shown because it was given neither a password nor a key)"
	}
	shell := "as " + guest.AdminUser + " by SSH, with the key that this VM was given"
	if !keys {
		shell = "by SSH as " + guest.AdminUser + ", once a key is given. With QEMU:\n             " + giveKey
	}
	text := fmt.Sprintf("  log in     as %s with %s\n  shell      %s\n", s.config.Credentials.Username, password, shell)
	return did, s.replace(guest.ConsoleFile, []byte(text), 0o600, 0, 0)
}

// hasKeys reports whether the SSH user has a key: one of this boot or of one
// before.
func (s *Setup) hasKeys() (bool, error) {
	login, err := s.account(guest.AdminUser)
	if err != nil {
		return false, err
	}
	b, err := readRegular(s.path(login.home+"/.ssh/"+guest.AuthorizedKeysFile), maxKeys)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read keys of %s: %w", guest.AdminUser, err)
	}
	return checkKeys(b) == nil, nil
}

// Console tells whoever looks at the machine's consoles where the dashboard is
// and how to get in.
type Console struct {
	Root      string // as in [Setup]
	Ports     guest.Ports
	Serves    func(context.Context) bool                 // the dashboard answers
	Addresses func() ([]netip.Addr, error)               // of this machine
	Open      func(path string) (io.WriteCloser, error)  // of a console
	Wait      func(context.Context, time.Duration) error // sleeps
	Now       func() time.Time                           // the clock
	Patience  time.Duration                              // of waiting for the dashboard
}

// addressPatience is how long a network may take to give an address after the
// dashboard serves. A machine may have none.
const addressPatience = 15 * time.Second

// Show waits until the dashboard serves and the machine has an address, and
// writes the text on every console. A console that cannot be written to does not
// keep the others silent. An error says which could not.
func (c *Console) Show(ctx context.Context) error {
	serves, addresses, err := c.await(ctx)
	if err != nil {
		return err
	}
	entry, err := readRegular(filepath.Join(c.Root, guest.ConsoleFile), 8<<10)
	if err != nil {
		return fmt.Errorf("read how to get in: %w", err)
	}
	list, err := c.consoles()
	if err != nil {
		return err
	}

	text := "\nRockpool Root VM\n" + c.dashboard(serves, addresses) + string(entry) + "\n"
	var faults []error
	for _, path := range list {
		faults = append(faults, c.write(path, text))
	}
	return errors.Join(faults...)
}

// await returns what is known once all is, or when the time is over. It goes by
// the clock, for a dashboard that is silent takes seconds to be looked at, and
// systemd gives the whole unit a time (TimeoutStartSec).
func (c *Console) await(ctx context.Context) (serves bool, addresses []netip.Addr, err error) {
	end := c.Now().Add(c.Patience)
	for {
		if !serves && c.Serves(ctx) {
			serves, end = true, c.Now().Add(addressPatience)
		}
		if addresses, err = c.Addresses(); err != nil {
			return false, nil, fmt.Errorf("list addresses: %w", err)
		}
		if serves && len(addresses) > 0 || !c.Now().Before(end) {
			return serves, addresses, nil
		}
		if err := c.Wait(ctx, time.Second); err != nil {
			return false, nil, err
		}
	}
}

// dashboard is the line with its addresses. Behind QEMU's user network only a
// forwarded port leads to it, elsewhere the machine's own address.
func (c *Console) dashboard(serves bool, addresses []netip.Addr) string {
	if !serves {
		return "  dashboard  does not answer: journalctl -u 'rockpool-*' in a shell says why\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  dashboard  http://localhost:%d/ where the host forwards the port\n", c.Ports.Dashboard)
	for _, a := range addresses {
		fmt.Fprintf(&b, "             http://%s/\n", netip.AddrPortFrom(a, guest.PortDashboard))
	}
	return b.String()
}

// consoles lists the kernel's (Documentation/ABI/testing/sysfs-tty).
func (c *Console) consoles() ([]string, error) {
	b, err := os.ReadFile(filepath.Join(c.Root, "/sys/class/tty/console/active"))
	if err != nil {
		return nil, fmt.Errorf("list consoles: %w", err)
	}
	var list []string
	for _, name := range strings.Fields(string(b)) {
		list = append(list, "/dev/"+name)
	}
	return list, nil
}

// write writes on one console. A serial port that the kernel lists and the machine
// does not have answers with an input/output error: nobody can look at that one.
func (c *Console) write(path, text string) error {
	w, err := c.Open(path)
	if err == nil {
		_, err = io.WriteString(w, text)
		err = errors.Join(err, w.Close())
	}
	if err != nil && !errors.Is(err, unix.EIO) {
		return fmt.Errorf("write to console %s: %w", path, err)
	}
	return nil
}

// OpenConsole opens a terminal that may have nobody at its other end: it waits
// for room for some seconds only.
func OpenConsole(path string) (io.WriteCloser, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	// A terminal without deadlines is written to without them.
	if err := f.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil && !errors.Is(err, os.ErrNoDeadline) {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
