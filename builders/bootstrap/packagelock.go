package bootstrap

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rockpool/rootvm/builders"
)

//go:embed locks
var locks embed.FS

// lockFormat is the version of the header's meaning.
const lockFormat = "1"

// PackageLock is a closed set of Debian packages of one suite and
// architecture, each pinned by the SHA-256 of its file. On disk it is a series
// of paragraphs in the format of deb-control(5): a header (Format, Suite,
// Architecture, Set, Date, Include), then one paragraph a package with fields
// of the archive's Packages index, ordered by name.
type PackageLock struct {
	Suite        string
	Architecture string
	Set          string    // "rootvm", "tools"
	Date         time.Time // of the newest archive index it was made from, UTC
	Include      []string  // packages asked for, sorted; the others are what they need

	packages []paragraph
}

// PackageLockName is the file name of a package lock.
func PackageLockName(suite, arch, set string) string { return suite + "-" + arch + "-" + set + ".lock" }

// LoadPackageLock returns the lock of a suite, architecture and set that is part
// of this program.
func LoadPackageLock(suite, arch, set string) (*PackageLock, error) {
	name := PackageLockName(suite, arch, set)
	b, err := locks.ReadFile(path.Join("locks", name))
	if err != nil {
		return nil, fmt.Errorf("no package lock for suite %s, architecture %s, set %s: make it with `go tool mage rootvm:lock`", suite, arch, set)
	}
	l, err := ParsePackageLock(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if l.Suite != suite || l.Architecture != arch || l.Set != set {
		return nil, fmt.Errorf("lock %s is of suite %s, architecture %s, set %s: restore it from version control", name, l.Suite, l.Architecture, l.Set)
	}
	return l, nil
}

// ParsePackageLock reads a lock and checks that every package in it can be
// fetched and verified.
func ParsePackageLock(r io.Reader) (*PackageLock, error) {
	paragraphs, err := parseParagraphs(r)
	if err != nil {
		return nil, fmt.Errorf("parse lock: %w", err)
	}
	if len(paragraphs) == 0 {
		return nil, errors.New("parse lock: no header")
	}

	header := paragraphs[0]
	if f := header.get("Format"); f != lockFormat {
		return nil, fmt.Errorf("parse lock: format %q is not %s: make the lock again", f, lockFormat)
	}
	l := &PackageLock{
		Suite:        header.get("Suite"),
		Architecture: header.get("Architecture"),
		Set:          header.get("Set"),
		Include:      strings.Fields(header.get("Include")),
		packages:     paragraphs[1:],
	}
	if l.Date, err = time.Parse(time.RFC3339, header.get("Date")); err != nil {
		return nil, fmt.Errorf("parse lock: date: %w", err)
	}
	l.Date = l.Date.UTC()

	seen := map[string]bool{}
	for _, p := range l.packages {
		if err := checkPackage(p); err != nil {
			return nil, fmt.Errorf("parse lock: package %q: %w", p.get("Package"), err)
		}
		key := p.get("Package") + ":" + p.get("Architecture")
		if seen[key] {
			return nil, fmt.Errorf("parse lock: package %s is there twice", key)
		}
		seen[key] = true
	}
	return l, nil
}

func checkPackage(p paragraph) error {
	for _, field := range []string{"Package", "Version", "Architecture"} {
		if p.get(field) == "" || strings.ContainsAny(p.get(field), "/ \n") {
			return fmt.Errorf("bad field %s: %q", field, p.get(field))
		}
	}
	if b, err := hex.DecodeString(p.get("SHA256")); err != nil || len(b) != sha256.Size || strings.ToLower(p.get("SHA256")) != p.get("SHA256") {
		return fmt.Errorf("bad SHA256 %q", p.get("SHA256"))
	}
	if size, err := strconv.ParseInt(p.get("Size"), 10, 64); err != nil || size <= 0 {
		return fmt.Errorf("bad Size %q", p.get("Size"))
	}
	file := p.get("Filename")
	if !strings.HasPrefix(file, "pool/") || path.Clean(file) != file || strings.ContainsAny(file, " ?#%\n") {
		return fmt.Errorf("bad Filename %q", file)
	}
	return nil
}

// WriteTo writes the lock as [ParsePackageLock] reads it.
func (l *PackageLock) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	header := paragraph{
		{"Format", lockFormat},
		{"Suite", l.Suite},
		{"Architecture", l.Architecture},
		{"Set", l.Set},
		{"Date", l.Date.UTC().Format(time.RFC3339)},
		{"Include", strings.Join(l.Include, "\n")},
	}
	for i, p := range append([]paragraph{header}, l.packages...) {
		if i > 0 {
			b.WriteByte('\n')
		}
		p.write(&b)
	}
	return b.WriteTo(w)
}

// Digest is the SHA-256 of all the lock says, in hexadecimal.
func (l *PackageLock) Digest() string {
	h := sha256.New()
	if _, err := l.WriteTo(h); err != nil {
		panic(err) // a hash takes every write
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Packages lists the packages in the order of the lock.
func (l *PackageLock) Packages() []builders.Package {
	list := make([]builders.Package, 0, len(l.packages))
	for _, p := range l.packages {
		size, _ := strconv.ParseInt(p.get("Size"), 10, 64) // checked by ParsePackageLock
		list = append(list, builders.Package{
			Name: p.get("Package"), Version: p.get("Version"), Architecture: p.get("Architecture"),
			SHA256: p.get("SHA256"), Size: size,
		})
	}
	return list
}

// index is the lock as the Packages file of a flat repository.
func (l *PackageLock) index() []byte {
	var b bytes.Buffer
	for _, p := range l.packages {
		local := slices.Clone(p)
		for i := range local {
			if local[i].name == "Filename" {
				local[i].value = "./" + p.localName()
			}
		}
		local.write(&b)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// paragraph is a series of fields. A value of several lines is joined by
// newlines, without the leading space of the file.
type paragraph []field

type field struct{ name, value string }

func (p paragraph) get(name string) string {
	for _, f := range p {
		if f.name == name {
			return f.value
		}
	}
	return ""
}

// localName is the file name of the package in a flat repository.
func (p paragraph) localName() string {
	version := strings.ReplaceAll(p.get("Version"), ":", "%3a")
	return p.get("Package") + "_" + version + "_" + p.get("Architecture") + ".deb"
}

func (p paragraph) write(b *bytes.Buffer) {
	for _, f := range p {
		fmt.Fprintf(b, "%s: %s\n", f.name, strings.ReplaceAll(f.value, "\n", "\n "))
	}
}

// parseParagraphs reads deb-control(5) paragraphs separated by empty lines.
func parseParagraphs(r io.Reader) ([]paragraph, error) {
	var all []paragraph
	var p paragraph
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), 4<<20)

	for n := 1; s.Scan(); n++ {
		line := strings.TrimRight(s.Text(), " \t\r")
		switch {
		case strings.HasPrefix(line, "#"):
		case line == "":
			if p != nil {
				all, p = append(all, p), nil
			}
		case line[0] == ' ' || line[0] == '\t':
			if p == nil {
				return nil, fmt.Errorf("line %d: continues no field", n)
			}
			last := &p[len(p)-1]
			last.value += "\n" + strings.TrimLeft(line, " \t")
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok || name == "" || strings.ContainsAny(name, " \t") {
				return nil, fmt.Errorf("line %d: %q is not a field", n, line)
			}
			if p.get(name) != "" {
				return nil, fmt.Errorf("line %d: field %s is there twice", n, name)
			}
			p = append(p, field{name, strings.TrimLeft(value, " \t")})
		}
	}

	if p != nil {
		all = append(all, p)
	}
	return all, s.Err()
}
