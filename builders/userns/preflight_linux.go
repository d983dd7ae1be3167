package userns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// minSubordinateIDs covers the users of a Debian system, up to nobody (65534).
const minSubordinateIDs = 65536

// New finds the way to be root of a root file system here, and tries it. Its
// error names every obstacle, each with the exact command that removes it.
func New() (*Namespace, error) {
	p, err := look()
	if err != nil {
		return nil, fmt.Errorf("examine user namespaces: %w", err)
	}
	if err := p.faults(); err != nil {
		return nil, err
	}
	n := &Namespace{unshare: p.unshare, root: p.root, maps: p.maps()}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// The mount matters: AppArmor lets some hosts create a user namespace
	// and then do nothing in it.
	out, err := n.Command(ctx, "mount", "-t", "tmpfs", "rockpool", "/tmp").CombinedOutput()
	if err != nil {
		return nil, p.refused(fmt.Sprintf("%v: %s", err, lastLine(out)))
	}
	return n, nil
}

// probe is what this machine offers, gathered by look and judged by faults and
// refused.
type probe struct {
	root       bool
	user       string
	uid        int
	unshare    string // path, empty when missing
	mapAuto    bool   // unshare(1) knows --map-auto (util-linux 2.38)
	newuidmap  bool   // newuidmap(1) and newgidmap(1) are there
	source     string // where subordinate IDs come from, as nsswitch.conf(5) has it; empty: the files
	getsubids  bool   // getsubids(1) is there
	subuid     idRanges
	subgid     idRanges
	maxUser    string // sysctl user.max_user_namespaces, empty when absent
	cloneKnob  string // sysctl kernel.unprivileged_userns_clone (Debian's)
	restricted string // sysctl kernel.apparmor_restrict_unprivileged_userns (Ubuntu's)
}

// idRanges is one of /etc/subuid and /etc/subgid, or what getsubids(1) says
// instead.
type idRanges struct {
	mine  int // size of the first range of the user, the one unshare(1) takes
	first int // its first ID
	next  int // first ID above every range
}

func look() (probe, error) {
	p := probe{root: os.Geteuid() == 0, uid: os.Getuid()}
	p.user = userName(p.uid)
	if path, err := exec.LookPath("unshare"); err == nil {
		p.unshare = path
		help, _ := exec.Command(path, "--help").CombinedOutput()
		p.mapAuto = strings.Contains(string(help), "--map-auto")
	}

	_, uidErr := exec.LookPath("newuidmap")
	_, gidErr := exec.LookPath("newgidmap")
	p.newuidmap = uidErr == nil && gidErr == nil
	if err := p.findRanges(host{etc: "/etc", getsubids: getsubids}); err != nil {
		return p, err
	}

	p.maxUser = sysctl("user/max_user_namespaces")
	p.cloneKnob = sysctl("kernel/unprivileged_userns_clone")
	p.restricted = sysctl("kernel/apparmor_restrict_unprivileged_userns")
	return p, nil
}

func sysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// userName asks as the system does, for the user may be in a directory elsewhere,
// which this program, linked statically, knows nothing of. It is empty when nobody
// knows.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	out, err := exec.Command("id", "-un", strconv.Itoa(uid)).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// host is where subordinate IDs are looked up.
type host struct {
	etc       string                                       // directory
	getsubids func(args ...string) (out []byte, err error) // an [exec.ErrNotFound] when it is missing
}

func getsubids(args ...string) ([]byte, error) { return exec.Command("getsubids", args...).Output() }

// findRanges looks where newuidmap(1) will: in the source that nsswitch.conf(5)
// names, and in the files when it names none.
func (p *probe) findRanges(h host) error {
	b, err := os.ReadFile(filepath.Join(h.etc, "nsswitch.conf"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	p.source = subidSource(string(b))

	for _, kind := range []struct {
		file   string
		args   []string
		ranges *idRanges
	}{{"subuid", nil, &p.subuid}, {"subgid", []string{"-g"}, &p.subgid}} {
		if p.source != "" {
			out, err := h.getsubids(append(kind.args, p.name())...)
			p.getsubids = !errors.Is(err, exec.ErrNotFound)
			*kind.ranges = parseSubids(string(out)) // it says nothing on its output when it fails
			continue
		}
		f, err := os.Open(filepath.Join(h.etc, kind.file))
		if errors.Is(err, os.ErrNotExist) {
			kind.ranges.next = 100000
			continue
		} else if err != nil {
			return err
		}
		*kind.ranges = parseRanges(f, p.user, p.uid)
		f.Close()
	}
	return nil
}

// subidSource returns the source of subordinate IDs that nsswitch.conf(5) names,
// such as sss, or nothing for the files. There is one, as shadow's libsubid has it.
func subidSource(nsswitch string) string {
	for line := range strings.Lines(nsswitch) {
		line, _, _ = strings.Cut(line, "#")
		name, sources, ok := strings.Cut(line, ":")
		f := strings.Fields(sources)
		if ok && strings.TrimSpace(name) == "subid" && len(f) > 0 && f[0] != "files" {
			return f[0]
		}
	}
	return ""
}

// parseSubids reads the first range that getsubids(1) lists, as "0: ann 100000
// 65536": number, user, first ID and count.
func parseSubids(out string) idRanges {
	line, _, _ := strings.Cut(out, "\n")
	f := strings.Fields(line)
	if len(f) != 4 {
		return idRanges{}
	}
	first, err1 := strconv.Atoi(f[2])
	count, err2 := strconv.Atoi(f[3])
	if err1 != nil || err2 != nil || first <= 0 || count < 0 {
		return idRanges{}
	}
	return idRanges{mine: count, first: first}
}

// maps are the options by which unshare(1) maps the user's first ranges. It finds
// them itself in the files only; what it makes of either is the same.
func (p probe) maps() []string {
	if p.source == "" {
		return []string{"--map-auto"}
	}
	return []string{
		fmt.Sprintf("--map-users=%d,0,%d", p.subuid.first, p.subuid.mine),
		fmt.Sprintf("--map-groups=%d,0,%d", p.subgid.first, p.subgid.mine),
	}
}

// name is the user's for commands and messages.
func (p probe) name() string {
	if p.user == "" {
		return strconv.Itoa(p.uid)
	}
	return p.user
}

// parseRanges reads subuid(5): lines of user or UID, first ID and count.
func parseRanges(r io.Reader, name string, uid int) idRanges {
	ranges := idRanges{next: 100000}
	for s := bufio.NewScanner(r); s.Scan(); {
		fields := strings.Split(strings.TrimSpace(s.Text()), ":")
		if len(fields) != 3 {
			continue
		}
		first, err1 := strconv.Atoi(fields[1])
		count, err2 := strconv.Atoi(fields[2])
		if err1 != nil || err2 != nil || first < 0 || count < 0 {
			continue
		}
		ranges.next = max(ranges.next, first+count)
		if ranges.mine == 0 && (fields[0] == name || fields[0] == strconv.Itoa(uid)) {
			ranges.mine, ranges.first = count, first
		}
	}
	return ranges
}

// faults names what must be installed or configured before a try is worth it.
func (p probe) faults() error {
	var faults []error
	switch {
	case p.unshare == "":
		faults = append(faults, errors.New("unshare(1) is missing: run `sudo apt-get install util-linux`"))
	case !p.root && !p.mapAuto:
		faults = append(faults, errors.New("unshare(1) of this machine does not know --map-auto: util-linux 2.38 or newer is needed (Debian 12, Ubuntu 24.04), or run the build as root"))
	}

	if p.root {
		return errors.Join(faults...)
	}

	if !p.newuidmap {
		faults = append(faults, errors.New("newuidmap(1) is missing: run `sudo apt-get install uidmap`"))
	}
	if p.source != "" && !p.getsubids {
		faults = append(faults, fmt.Errorf("subordinate IDs come from %s (/etc/nsswitch.conf) and getsubids(1), which asks it, is missing: run `sudo apt-get install uidmap`", p.source))
		return errors.Join(faults...)
	}
	if p.subuid.mine < minSubordinateIDs || p.subgid.mine < minSubordinateIDs {
		faults = append(faults, p.tooFewIDs())
	}
	if p.maxUser == "0" || p.cloneKnob == "0" {
		faults = append(faults, p.refused(""))
	}
	return errors.Join(faults...)
}

func (p probe) tooFewIDs() error {
	name := p.name()
	if p.source != "" {
		return fmt.Errorf("user %s has %d subordinate user IDs and %d group IDs from %s (/etc/nsswitch.conf), and %d of each are needed: have them given there",
			name, p.subuid.mine, p.subgid.mine, p.source, minSubordinateIDs)
	}
	var options []string
	for _, kind := range []struct {
		flag string
		idRanges
	}{{"uids", p.subuid}, {"gids", p.subgid}} {
		if kind.mine > 0 && kind.mine < minSubordinateIDs {
			return fmt.Errorf("the first range of user %s in /etc/sub%s holds %d IDs and %d are needed: make it larger there",
				name, kind.flag[:3], kind.mine, minSubordinateIDs)
		}
		if kind.mine == 0 {
			options = append(options, fmt.Sprintf("--add-sub%s %d-%d", kind.flag, kind.next, kind.next+minSubordinateIDs-1))
		}
	}
	return fmt.Errorf("user %s has no subordinate IDs: run `sudo usermod %s %s`", name, strings.Join(options, " "), name)
}

// refused explains why the kernel did not let the namespaces be made, with
// what unshare(1) said as the last resort.
func (p probe) refused(said string) error {
	const persist = " (to keep it over reboots, put `%s` into /etc/sysctl.d/60-userns.conf)"
	switch {
	case p.root:
		return fmt.Errorf("root may not make mount and PID namespaces here: %s: run on a machine or in a container with CAP_SYS_ADMIN", said)
	case p.maxUser == "0":
		return fmt.Errorf("user namespaces are switched off: run `sudo sysctl -w user.max_user_namespaces=15000`"+persist, "user.max_user_namespaces=15000")
	case p.cloneKnob == "0":
		return fmt.Errorf("user namespaces are forbidden to ordinary users: run `sudo sysctl -w kernel.unprivileged_userns_clone=1`"+persist, "kernel.unprivileged_userns_clone=1")
	case p.restricted != "" && p.restricted != "0":
		return fmt.Errorf("AppArmor forbids user namespaces to ordinary users: run `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"+persist, "kernel.apparmor_restrict_unprivileged_userns=0")
	}
	return fmt.Errorf("the kernel refuses user namespaces: %s: a container needs its runtime's permission (podman: --security-opt unmask=ALL --device /dev/fuse; docker: --privileged), or run the build as root on the machine itself", said)
}
