package disk

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/md5"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/guest"
)

// ownership holds, for each suite, the paths that are not plainly root's.
//
//go:embed ownership
var ownership embed.FS

// workspaceRootfs is where the root file system of the workspace image lies, to be
// seen through ID-mapped mounts.
const workspaceRootfs = guest.WorkspaceRoot + "/"

// audit is what one pass over a root file system's archive finds out.
type audit struct {
	epoch      time.Time
	faults     []error
	size       int64 // of all regular files, bytes
	users      map[int]string
	groups     map[int]string
	privileged []privileged
	sums       map[string]string // MD5 of every regular file
	links      map[string]string // hard links
	packages   map[string]packageFile
	diverted   map[string]string // by dpkg-divert(1)
	sizes      map[string]int64  // of regular files, bytes
	installed  map[string]installed
}

// packageFile is a file by its package's word.
type packageFile struct{ pkg, md5 string }

// privileged is a path with an owner, a mode or a capability of its own.
type privileged struct {
	path       string
	mode       int64
	uid, gid   int
	capability bool
}

// Ownership lists the paths of a root file system that are not plainly root's,
// one "mode user:group path" each, sorted by path: it is the content for
// ownership/<suite>.txt.
func Ownership(rootfsTar string) ([]string, error) {
	a, err := newAudit(time.Unix(1<<40, 0), rootfsTar)
	if err != nil {
		return nil, fmt.Errorf("list ownership: %w", err)
	}
	return a.ownership(), nil
}

// newAudit reads the archive once.
func newAudit(epoch time.Time, rootfsTar string) (*audit, error) {
	f, err := os.Open(rootfsTar)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a := &audit{
		epoch: epoch, users: map[int]string{}, groups: map[int]string{},
		sums: map[string]string{}, links: map[string]string{}, packages: map[string]packageFile{}, diverted: map[string]string{},
		sizes: map[string]int64{}, installed: map[string]installed{},
	}
	if err := eachEntry(f, a.visit); err != nil {
		return nil, fmt.Errorf("read %s: %w", rootfsTar, err)
	}
	return a, nil
}

func (a *audit) fault(format string, args ...any) {
	a.faults = append(a.faults, fmt.Errorf(format, args...))
}

// visit takes in one entry.
func (a *audit) visit(name string, h *tar.Header, r io.Reader) error {
	_, capability := h.PAXRecords["SCHILY.xattr.security.capability"]
	if strings.HasPrefix(name, workspaceRootfs) {
		// Owners and modes of another system, by that system's packages.
	} else if h.Mode&0o6000 != 0 || h.Uid != 0 || h.Gid != 0 || capability {
		a.privileged = append(a.privileged, privileged{name, h.Mode & 0o7777, h.Uid, h.Gid, capability})
	}

	if h.ModTime.After(a.epoch) {
		a.fault("%s: its time %s is after the image's %s", name, h.ModTime.UTC().Format(time.RFC3339), a.epoch.Format(time.RFC3339))
	}
	if h.Typeflag == tar.TypeLink {
		a.links[name] = absolute(h.Linkname)
		return nil
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	a.size += h.Size
	a.sizes[name] = h.Size
	if cure := forbidden(name, h.Size); cure != "" {
		a.fault("%s: %s", name, cure)
	}
	return a.read(name, r)
}

// read takes in a regular file's content.
func (a *audit) read(name string, r io.Reader) error {
	sum := md5.New()
	r = io.TeeReader(r, sum)
	if take := a.reader(name); take != nil {
		content, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		take(content)
	} else if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	a.sums[name] = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// reader is what to do with the content of a file, nil for nothing.
func (a *audit) reader(name string) func(content []byte) {
	switch {
	case name == "/etc/passwd":
		return func(b []byte) { readNames(b, a.users) }
	case name == "/etc/group":
		return func(b []byte) { readNames(b, a.groups) }
	case name == "/etc/shadow" || name == "/etc/shadow-" || name == "/etc/gshadow" || name == "/etc/gshadow-":
		return func(b []byte) { a.readShadow(name, b) }
	case name == "/etc/machine-id":
		return func(b []byte) {
			if id := strings.TrimSpace(string(b)); id != "" && id != "uninitialized" {
				a.fault("%s: holds an identity: empty it, so that each VM makes its own", name)
			}
		}
	case name == "/var/lib/dpkg/diversions":
		return a.readDiversions
	case name == "/var/lib/dpkg/status":
		return a.readStatus
	case path.Dir(name) == "/var/lib/dpkg/info" && path.Ext(name) == ".md5sums":
		pkg, _, _ := strings.Cut(strings.TrimSuffix(path.Base(name), ".md5sums"), ":")
		return func(b []byte) { a.readSums(pkg, b) }
	}
	return nil
}

// forbidden says what is wrong with there being a regular file of that name and
// size in an image; it is empty when nothing is.
func forbidden(name string, size int64) string {
	dir, base := path.Split(name)
	match := func(pattern, s string) bool { ok, _ := path.Match(pattern, s); return ok }
	switch {
	case match("/etc/ssh/ssh_host_*", name):
		return "ssh host key in the image: remove it, so that each VM makes its own"
	case name == "/var/lib/dbus/machine-id" && size > 0:
		return "holds an identity: link it to /etc/machine-id"
	case match("authorized_keys*", base) && size > 0 && !strings.HasPrefix(dir, "/usr/"):
		return "authorized key in the image: remove it"
	case match("/etc/ssl/private/*", name):
		return "private key in the image: remove it"
	case name == "/var/lib/systemd/random-seed" || name == "/var/lib/systemd/credential.secret":
		return "secret in the image: remove it"
	case strings.HasPrefix(name, "/var/lib/apt/lists/") && base != "lock":
		return "package list in the image: remove it"
	case match("/var/cache/apt/archives/*.deb", name) || match("/var/cache/apt/*.bin", name):
		return "package cache in the image: remove it"
	}
	return ""
}

// readNames reads the names of passwd(5) or group(5).
func readNames(content []byte, names map[int]string) {
	for line := range strings.Lines(string(content)) {
		fields := strings.Split(line, ":")
		if len(fields) < 3 {
			continue
		}
		if id, err := strconv.Atoi(strings.TrimSpace(fields[2])); err == nil {
			names[id] = fields[0]
		}
	}
}

// readShadow finds passwords, empty ones included, in shadow(5) or gshadow(5).
func (a *audit) readShadow(name string, content []byte) {
	group := strings.HasPrefix(name, "/etc/gshadow")
	for line := range strings.Lines(string(content)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) < 2 {
			continue
		}
		switch password := fields[1]; {
		case password == "" && group:
		case password == "":
			a.fault("%s: %s logs in without a password: lock it", name, fields[0])
		case strings.Trim(password, "!*") != "":
			a.fault("%s: %s has a password: lock it", name, fields[0])
		}
	}
}

// readDiversions reads dpkg's triples of path, its new path and the package.
func (a *audit) readDiversions(content []byte) {
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	for i := 0; i+2 < len(lines); i += 3 {
		a.diverted[lines[i]] = lines[i+1]
	}
}

// readSums reads the checksums of one package.
func (a *audit) readSums(pkg string, content []byte) {
	s := bufio.NewScanner(bytes.NewReader(content))
	for s.Scan() {
		if sum, name, ok := strings.Cut(s.Text(), "  "); ok {
			a.packages["/"+name] = packageFile{pkg, sum}
		}
	}
}

// slim is where files of packages may be missing: dpkg's path-exclude or a
// provisioning step removes them to save space.
var slim = []string{
	"/usr/share/doc/", "/usr/share/man/", "/usr/share/info/", "/usr/share/locale/", "/usr/share/i18n/",
	"/usr/share/lintian/", "/usr/share/bug/", "/usr/share/doc-base/", "/usr/share/linda/", "/usr/share/gnome/help/",
	"/usr/lib/firmware/", "/usr/lib/modules/", "/usr/lib/python3/", "/usr/share/icons/", "/usr/share/zsh/", "/usr/share/fish/",
}

// checkPackages compares the files of packages with their checksums.
func (a *audit) checkPackages() error {
	var faults []error
	for name, want := range a.packages {
		at, got := a.find(name)
		switch {
		case got == want.md5:
		case got != "":
			faults = append(faults, fmt.Errorf("%s: differs from its package's", at))
		case !slices.ContainsFunc(slim, func(dir string) bool { return strings.HasPrefix(at, dir) }):
			faults = append(faults, fmt.Errorf("%s: missing, though its package has it", at))
		}
	}
	slices.SortFunc(faults, func(x, y error) int { return strings.Compare(x.Error(), y.Error()) })
	return errors.Join(faults...)
}

// find is where a package's file is, and its checksum, which is empty when it
// is nowhere. /bin, /lib and so on are links into /usr, and packages name either.
func (a *audit) find(name string) (at, sum string) {
	for _, at = range []string{name, "/usr" + name} {
		if to, ok := a.diverted[at]; ok {
			at = to
		}
		if sum = a.sum(at); sum != "" {
			return at, sum
		}
	}
	if strings.HasPrefix(name, "/usr/") {
		return name, ""
	}
	return at, ""
}

func (a *audit) sum(name string) string {
	if to, ok := a.links[name]; ok {
		name = to
	}
	return a.sums[name]
}

func (a *audit) checkSize() error {
	if a.size > MaxRootfs {
		return fmt.Errorf("root file system holds %d MiB, its budget is %d MiB", a.size>>20, MaxRootfs>>20)
	}
	return nil
}

// ownership is the list of privileged paths as text.
func (a *audit) ownership() []string {
	slices.SortFunc(a.privileged, func(x, y privileged) int { return strings.Compare(x.path, y.path) })
	lines := make([]string, 0, len(a.privileged))
	for _, p := range a.privileged {
		line := fmt.Sprintf("%04o %s:%s %s", p.mode, nameOf(a.users, p.uid), nameOf(a.groups, p.gid), p.path)
		if p.capability {
			line += " capability"
		}
		lines = append(lines, line)
	}
	return lines
}

func nameOf(names map[int]string, id int) string {
	if name, ok := names[id]; ok {
		return name
	}
	return strconv.Itoa(id)
}

// checkOwnership compares the privileged paths with the suite's list. A line of
// the list that ends in "/**" stands for everything below a directory with that
// mode, or any mode if it is "-". Every suite of
// [builders.Suites] has a list.
func (a *audit) checkOwnership(suite string) error {
	content, err := ownership.ReadFile("ownership/" + suite + ".txt")
	if err != nil && !slices.Contains(builders.Suites, suite) {
		return nil
	}
	return compareOwnership(a.ownership(), string(content), "ownership/"+suite+".txt")
}

func compareOwnership(got []string, list, file string) error {
	want := map[string]bool{} // line → met
	var trees []string
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case strings.HasSuffix(line, "/**"):
			trees = append(trees, strings.TrimSuffix(line, "**"))
		default:
			want[line] = false
		}
	}

	var faults []error
	for _, line := range got {
		if _, ok := want[line]; ok {
			want[line] = true
			continue
		}
		if !slices.ContainsFunc(trees, func(tree string) bool { return inTree(line, tree) }) {
			faults = append(faults, fmt.Errorf("not in %s: %s", file, line))
		}
	}

	for line, met := range want {
		if !met {
			faults = append(faults, fmt.Errorf("only in %s: %s", file, line))
		}
	}
	slices.SortFunc(faults, func(x, y error) int { return strings.Compare(x.Error(), y.Error()) })
	return errors.Join(faults...)
}

// inTree says whether a line of [Ownership] is covered by a tree, such as
// "- rockpool:rockpool /home/rockpool/".
func inTree(line, tree string) bool {
	mode, rest, _ := strings.Cut(tree, " ")
	lineMode, lineRest, _ := strings.Cut(line, " ")
	return (mode == "-" || mode == lineMode) && strings.HasPrefix(lineRest+"/", rest)
}
