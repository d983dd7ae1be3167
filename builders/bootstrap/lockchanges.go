package bootstrap

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	debian "github.com/knqyf263/go-deb-version"
)

// ChangeKind says in which way a package differs between two locks.
type ChangeKind int

// The kinds of changes, in the order in which people want to read them.
const (
	Security ChangeKind = iota // a newer version, from the archive of security updates
	Up
	Down
	New
	Gone
	Rebuilt // another file of the same version
)

func (k ChangeKind) String() string {
	return [...]string{"security", "up", "down", "new", "gone", "rebuilt"}[k]
}

// Change is one package that differs between two locks.
type Change struct {
	Kind        ChangeKind
	Name        string // with its architecture if that is not the lock's, as dpkg names it
	Before, Now string // versions; empty where there is none
	Bytes       int64  // by which its file is larger
}

// Changes lists what differs between the lock of before and this one, by kind
// and name. before may be nil, for none.
func (l *PackageLock) Changes(before *PackageLock) []Change {
	old := map[string]paragraph{}
	if before != nil {
		for _, p := range before.packages {
			old[l.packageName(p)] = p
		}
	}

	var all []Change
	for _, now := range l.packages {
		name := l.packageName(now)
		was, ok := old[name]
		delete(old, name)
		change := Change{Kind: New, Name: name, Before: was.get("Version"), Now: now.get("Version"), Bytes: now.size() - was.size()}
		if ok {
			if was.get("SHA256") == now.get("SHA256") {
				continue
			}
			change.Kind = kindOf(change.Before, now)
		}
		all = append(all, change)
	}
	for name, was := range old {
		all = append(all, Change{Kind: Gone, Name: name, Before: was.get("Version"), Bytes: -was.size()})
	}
	slices.SortFunc(all, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
	})
	return all
}

// packageName is dpkg's: with the architecture where it is neither the lock's nor
// none.
func (l *PackageLock) packageName(p paragraph) string {
	switch arch := p.get("Architecture"); arch {
	case l.Architecture, "all":
		return p.get("Package")
	default:
		return p.get("Package") + ":" + arch
	}
}

// size is that of the package's file; that of no package is 0.
func (p paragraph) size() int64 {
	size, _ := strconv.ParseInt(p.get("Size"), 10, 64) // checked by ParsePackageLock
	return size
}

// kindOf compares versions as Debian does.
func kindOf(before string, now paragraph) ChangeKind {
	old, err1 := debian.NewVersion(before)
	current, err2 := debian.NewVersion(now.get("Version"))
	switch {
	case err1 != nil || err2 != nil || old.Equal(current):
		return Rebuilt
	case current.LessThan(old):
		return Down
	case strings.HasPrefix(now.get("Filename"), securityPool):
		return Security
	}
	return Up
}

// WriteChanges writes for people in which way the lock differs from that of
// before, which may be nil, security updates first.
func (l *PackageLock) WriteChanges(w io.Writer, before *PackageLock) error {
	changes := l.Changes(before)
	size, grown := int64(0), int64(0)
	for _, p := range l.packages {
		size += p.size()
	}
	for _, c := range changes {
		grown += c.Bytes
	}

	summary := fmt.Sprintf("%d packages, %.1f MB, as of %s", len(l.packages), float64(size)/1e6, l.Date.Format("2006-01-02"))
	switch {
	case before == nil:
		_, err := fmt.Fprintf(w, "%s: %s; there was none before\n", l.name(), summary)
		return err
	case len(changes) == 0:
		_, err := fmt.Fprintf(w, "%s: %s; nothing changed\n", l.name(), summary)
		return err
	}

	fmt.Fprintf(w, "%s: %s (%s): %s\n", l.name(), summary, signedSize(grown), countKinds(changes))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range changes {
		version := c.Before + " → " + c.Now
		switch c.Kind {
		case New, Rebuilt:
			version = c.Now
		case Gone:
			version = c.Before
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", c.Kind, c.Name, version, signedSize(c.Bytes))
	}
	return table.Flush()
}

func (l *PackageLock) name() string { return PackageLockName(l.Suite, l.Architecture, l.Set) }

// countKinds is such as "2 security, 1 new".
func countKinds(changes []Change) string {
	count := map[ChangeKind]int{}
	for _, c := range changes {
		count[c.Kind]++
	}
	var words []string
	for kind := Security; kind <= Rebuilt; kind++ {
		if count[kind] > 0 {
			words = append(words, fmt.Sprintf("%d %s", count[kind], kind))
		}
	}
	return strings.Join(words, ", ")
}

func signedSize(n int64) string {
	if n > -1e5 && n < 1e5 {
		return fmt.Sprintf("%+.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%+.1f MB", float64(n)/1e6)
}
