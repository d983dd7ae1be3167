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
	n := &Namespace{unshare: p.unshare, root: p.root}
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
	subuid     idRanges
	subgid     idRanges
	maxUser    string // sysctl user.max_user_namespaces, empty when absent
	cloneKnob  string // sysctl kernel.unprivileged_userns_clone (Debian's)
	restricted string // sysctl kernel.apparmor_restrict_unprivileged_userns (Ubuntu's)
}

// idRanges is one of /etc/subuid and /etc/subgid.
type idRanges struct {
	mine int // size of the first range of the user, the one unshare(1) takes
	next int // first ID above every range
}

func look() (probe, error) {
	p := probe{root: os.Geteuid() == 0, uid: os.Getuid()}
	if u, err := user.LookupId(strconv.Itoa(p.uid)); err == nil {
		p.user = u.Username
	}
	if path, err := exec.LookPath("unshare"); err == nil {
		p.unshare = path
		help, _ := exec.Command(path, "--help").CombinedOutput()
		p.mapAuto = strings.Contains(string(help), "--map-auto")
	}

	_, uidErr := exec.LookPath("newuidmap")
	_, gidErr := exec.LookPath("newgidmap")
	p.newuidmap = uidErr == nil && gidErr == nil
	for file, ranges := range map[string]*idRanges{"/etc/subuid": &p.subuid, "/etc/subgid": &p.subgid} {
		f, err := os.Open(file)
		if errors.Is(err, os.ErrNotExist) {
			ranges.next = 100000
			continue
		} else if err != nil {
			return p, err
		}
		*ranges = parseRanges(f, p.user, p.uid)
		f.Close()
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
			ranges.mine = count
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
	if p.subuid.mine < minSubordinateIDs || p.subgid.mine < minSubordinateIDs {
		faults = append(faults, p.tooFewIDs())
	}
	if p.maxUser == "0" || p.cloneKnob == "0" {
		faults = append(faults, p.refused(""))
	}
	return errors.Join(faults...)
}

func (p probe) tooFewIDs() error {
	name := p.user
	if name == "" {
		name = strconv.Itoa(p.uid)
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
