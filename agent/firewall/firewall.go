// Package firewall loads the packet filter that says what workspaces may
// reach, as root. Three things make it: the rules of the image, which a person
// may have edited, the networks of the host, and the exceptions of the user's
// own in [guest.ExceptionsDir]. It owns the table that the rules name, the list
// of networks and the copies of what was accepted last. It imports only guest and
// agent/oneline.
//
// The host's networks come from two places: from the configuration disk, which
// only root can read, and from the agent, which heard of a change. The agent is
// not trusted with more: it can have more refused, never less than the
// configuration disk says.
package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent/oneline"
	"github.com/rockpool/rootvm/guest"
)

// table is what the rules are in.
const table = "inet rockpool_workspaces"

// maxRules bounds a file with rules, in bytes.
const maxRules = 256 << 10

// acceptedDir holds, below the directory of the exceptions, those that were
// loaded last.
const acceptedDir = ".accepted"

// Filter is the packet filter of one machine. All fields but BootFault and
// Nft must be set.
type Filter struct {
	Root string   // "/", or a directory that stands for it in a test
	Boot []string // the networks on the configuration disk
	Log  *slog.Logger

	// BootFault is why those are not known, nil when they are. Then no list is
	// taken, for with it those of the start would be dropped.
	BootFault error

	// Nft runs nft with a script as its input; an error holds nft's own words.
	// nil is the machine's nft.
	Nft func(ctx context.Context, script []byte, args ...string) error
}

// Load replaces the whole filter in one transaction. What is not valid of a
// file that a person edited is named in a line of the log and left out for what
// was accepted last: the edited rules for those of the image, an exception for
// its former self. The filter is never without rules meanwhile.
func (f *Filter) Load(ctx context.Context) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()

	networks, err := f.networks()
	if err != nil {
		f.Log.Error("the list of the host's networks is not valid: those of the start are taken", "err", err)
		networks, err = guest.ParseHostNetworks(f.Boot)
	}
	if err != nil {
		return fmt.Errorf("networks of the host: %w", err)
	}

	script, err := f.rules(ctx, addNetworks(networks))
	if err != nil {
		return err
	}
	script = append(script, f.exceptions(ctx, script)...)
	if err := f.nft(ctx, script, "-f", "-"); err != nil {
		return fmt.Errorf("load the packet filter: %w", err)
	}
	return nil
}

// rules returns the edited rules where they are valid together with the host's
// networks, else the image's own, which are not tried first.
func (f *Filter) rules(ctx context.Context, networks []byte) ([]byte, error) {
	own, err := readRules(f.path(guest.FirewallSource))
	if err != nil {
		return nil, fmt.Errorf("rules of the image: %w", err)
	}
	edited, err := readRules(f.path(guest.FirewallFile))
	if err == nil && bytes.Equal(edited, own) {
		return append(own, networks...), nil
	}
	if err == nil && !bytes.Contains(edited, []byte("table "+table)) {
		err = errors.New("it does not hold the table " + table)
	}
	edited = append(edited, networks...)
	if err == nil {
		err = f.nft(ctx, edited, "-c", "-f", "-")
	}
	if err == nil {
		return edited, nil
	}

	f.Log.Error(guest.FirewallFile+" is not valid: the image's own rules are taken instead", "err", err)
	return append(own, networks...), nil
}

// exceptions returns what the user's own files add to the rules. A file counts
// when it is valid after the rules and the files before it.
func (f *Filter) exceptions(ctx context.Context, rules []byte) []byte {
	dir := f.path(guest.ExceptionsDir)
	files, err := filepath.Glob(filepath.Join(dir, "*.nft"))
	if err != nil || files == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(dir, acceptedDir), 0o700); err != nil {
		f.Log.Error("exceptions that are valid are not remembered", "err", err)
	}

	var all []byte
	for _, file := range files {
		accepted := filepath.Join(dir, acceptedDir, filepath.Base(file))
		b, err := readRules(file)
		if err == nil {
			err = f.nft(ctx, slices.Concat(rules, all, b), "-c", "-f", "-")
		}
		if err == nil {
			all = append(all, b...)
			if err := renameio.WriteFile(accepted, b, 0o600); err != nil {
				f.Log.Error("an exception that is valid is not remembered", "err", err)
			}
			continue
		}

		instead := "it is left out"
		if b, last := readRules(accepted); last == nil && f.nft(ctx, slices.Concat(rules, all, b), "-c", "-f", "-") == nil {
			all = append(all, b...)
			instead = "what was valid last is taken instead"
		}
		f.Log.Error("an exception of the packet filter is not valid: "+instead, "file", file, "err", err)
	}
	return all
}

// Answer takes over the host's networks from a connection of the agent: one
// prefix a line, and an empty line at the end. It answers "ok", or "error: "
// and why not, as a line; then nothing has changed.
func (f *Filter) Answer(ctx context.Context, in io.Reader, out io.Writer) error {
	list, err := readList(in)
	if err == nil {
		err = f.update(ctx, list)
	}
	return oneline.Answer(out, "ok", err)
}

// update puts networks in the place of those that were there, and touches
// nothing else of the filter.
func (f *Filter) update(ctx context.Context, list []string) error {
	if f.BootFault != nil {
		return fmt.Errorf("networks on the configuration disk are not known, so those of the start stay: %w", f.BootFault)
	}
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	boot, err := guest.ParseHostNetworks(f.Boot)
	if err != nil {
		return fmt.Errorf("networks on the configuration disk: %w", err)
	}
	told, err := guest.ParseHostNetworks(list)
	if err != nil {
		return err
	}

	if err := f.nft(ctx, addNetworks(guest.MergeNetworks(append(boot, told...))), "-f", "-"); err != nil {
		return fmt.Errorf("load the host's networks: %w", err)
	}
	return renameio.WriteFile(f.path(guest.NetworksFile), []byte(strings.Join(append(list, ""), "\n")), 0o644)
}

// networks are those of the configuration disk and those that the agent told
// last.
func (f *Filter) networks() ([]netip.Prefix, error) {
	boot, err := guest.ParseHostNetworks(f.Boot)
	if err != nil {
		return nil, err
	}
	b, err := readRules(f.path(guest.NetworksFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	told, err := guest.ParseHostNetworks(strings.Fields(string(b)))
	return guest.MergeNetworks(append(boot, told...)), err
}

// addNetworks is a script that makes prefixes the host's networks. The table
// and its sets may be missing, as before the first [Filter.Load].
func addNetworks(networks []netip.Prefix) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "add table %s\n", table)
	for _, set := range []string{"host4", "host6"} {
		fmt.Fprintf(&b, "add set %s %s { type ipv%s_addr; flags interval; }\nflush set %[1]s %[2]s\n", table, set, set[4:])
	}
	for _, p := range networks {
		set := "host6"
		if p.Addr().Is4() {
			set = "host4"
		}
		fmt.Fprintf(&b, "add element %s %s { %s }\n", table, set, p)
	}
	return b.Bytes()
}

func (f *Filter) path(p string) string { return filepath.Join(f.Root, p) }

// lock keeps two changes apart.
func (f *Filter) lock() (unlock func(), err error) {
	path := f.path(guest.SetupRunDir + "/firewall.lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("lock the packet filter: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the packet filter: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the packet filter: %w", err), file.Close())
	}
	return func() { _ = file.Close() }, nil
}

func (f *Filter) nft(ctx context.Context, script []byte, args ...string) error {
	if f.Nft != nil {
		return f.Nft(ctx, script, args...)
	}
	return Nft(ctx, script, args...)
}

// Nft runs the machine's nft. The error is its first line, which says where the
// fault is.
func Nft(ctx context.Context, script []byte, args ...string) error {
	cmd := exec.CommandContext(ctx, "/usr/sbin/nft", args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Stdin = bytes.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("nft: %w: %.300s", err, line)
	}
	return nil
}

// readRules reads a small regular file, and follows no link.
func readRules(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(file, maxRules+1))
	if len(b) > maxRules {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxRules)
	}
	return append(b, '\n'), err
}
