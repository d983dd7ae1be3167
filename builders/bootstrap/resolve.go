package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ResolveOptions says which lock to make.
type ResolveOptions struct {
	Suite        string
	Architecture string
	Set          string
	Include      []string // packages asked for; what they depend on follows, what they recommend does not
	Base         bool     // also what every Debian system has: essential and required packages, and apt
	Mirrors      []string // as of a Fetcher; the first of the main archive is asked
	Keyring      string   // OpenPGP keys of the archive; empty: Debian's, as its package debian-archive-keyring installs them
}

// debianKeyring is where debian-archive-keyring puts the archive's keys, on
// Debian, on Ubuntu and in the image.
const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// ToolPackages lists what the tools tree of a host architecture is asked to
// hold.
func ToolPackages(arch string) []string {
	list := []string{
		"base-files", // the links that make /lib and /bin part of /usr
		"caddy",      // the tests of the Caddyfile
		"dosfstools", "e2fsprogs", "ipxe-qemu",
		"libarchive13t64", // by which mke2fs reads a tar; only recommended
		"mtools", "nodejs", "npm",
		"qemu-utils", "virtiofsd",
	}
	switch arch {
	case "amd64":
		list = append(list, "grub-efi-amd64-bin", "grub-pc-bin", "ovmf", "qemu-system-x86", "seabios")
	case "arm64":
		list = append(list, "grub-efi-arm64-bin", "qemu-efi-aarch64", "qemu-system-arm")
	}
	slices.Sort(list)
	return list
}

// keptFields of the archive's index are those that apt and dpkg decide by and
// those that a fetch needs. Descriptions and maintainers only make noise in a
// diff.
var keptFields = []string{
	"Package", "Source", "Version", "Architecture", "Essential", "Protected", "Priority", "Multi-Arch",
	"Pre-Depends", "Depends", "Provides", "Conflicts", "Breaks", "Replaces",
	"Filename", "Size", "SHA256",
}

// Resolve asks the archive of today for a lock: main only, with the suite's
// updates and security updates. It needs apt and a network, no privilege, and
// leaves the host's apt alone.
func Resolve(ctx context.Context, o ResolveOptions) (*PackageLock, error) {
	dir, err := os.MkdirTemp("", "rockpool-lock-")
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", o.Set, err)
	}
	defer os.RemoveAll(dir)

	if o.Keyring == "" {
		o.Keyring = debianKeyring
	}
	if _, err := os.Stat(o.Keyring); err != nil {
		return nil, fmt.Errorf("resolve %s: %w: run `sudo apt-get install debian-archive-keyring`", o.Set, err)
	}

	a := &privateApt{dir: dir}
	if err := a.configure(o); err != nil {
		return nil, fmt.Errorf("resolve %s: %w", o.Set, err)
	}
	l, err := a.resolve(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("resolve %s for %s %s: %w", o.Set, o.Suite, o.Architecture, err)
	}
	return l, nil
}

// privateApt is apt with all its state in a directory: a system of a foreign
// suite where nothing is installed.
type privateApt struct{ dir string }

func (a *privateApt) path(rel string) string { return filepath.Join(a.dir, rel) }

func (a *privateApt) configure(o ResolveOptions) error {
	for _, d := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d", "etc/apt/trusted.gpg.d",
		"var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/lib/dpkg", "var/log/apt"} {
		if err := os.MkdirAll(a.path(d), 0o755); err != nil {
			return err
		}
	}

	main, security, err := archives(o.Mirrors)
	if err != nil {
		return err
	}
	conf := fmt.Sprintf(`Dir %q;
Dir::State::status %q;
APT::Architecture %q;
APT::Architectures { %q; };
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
Acquire::Languages "none";
`, a.dir, a.path("var/lib/dpkg/status"), o.Architecture, o.Architecture)
	sources := fmt.Sprintf("deb [signed-by=%[1]s] %[2]s %[4]s main\ndeb [signed-by=%[1]s] %[2]s %[4]s-updates main\ndeb [signed-by=%[1]s] %[3]s %[4]s-security main\n",
		o.Keyring, main, security, o.Suite)

	return errors.Join(
		os.WriteFile(a.path("apt.conf"), []byte(conf), 0o644),
		os.WriteFile(a.path("etc/apt/sources.list"), []byte(sources), 0o644),
		os.WriteFile(a.path("var/lib/dpkg/status"), nil, 0o644),
	)
}

// archives picks the bases of the main and the security archive.
func archives(mirrors []string) (main, security string, err error) {
	for _, file := range []struct {
		name string
		base *string
	}{{"pool/main", &main}, {"pool/updates/main", &security}} {
		urls := candidates(mirrors, file.name)
		if len(urls) == 0 {
			return "", "", errors.New("no mirror is known: set MIRROR to the base of a Debian archive")
		}
		*file.base = strings.TrimSuffix(urls[0], "/"+file.name)
	}
	return main, security, nil
}

func (a *privateApt) run(ctx context.Context, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+a.path("apt.conf"), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(argv[:2], " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

func (a *privateApt) resolve(ctx context.Context, o ResolveOptions) (*PackageLock, error) {
	if _, err := a.run(ctx, "apt-get", "update", "--error-on=any"); err != nil {
		return nil, err
	}
	argv := []string{"apt-get", "--simulate", "--yes", "install"}
	if o.Base {
		argv = append(argv, "?essential", "?priority(required)", "apt")
	}

	out, err := a.run(ctx, append(argv, o.Include...)...)
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		// Inst libc6 (2.41-12 Debian:13.0/stable [amd64])
		f := strings.Fields(line)
		if len(f) >= 3 && f[0] == "Inst" && strings.HasPrefix(f[2], "(") {
			names = append(names, f[1]+"="+strings.TrimPrefix(f[2], "("))
		}
	}
	if len(names) == 0 {
		return nil, errors.New("apt wants to install nothing: make it again with another version of apt")
	}

	index, err := a.run(ctx, append([]string{"apt-cache", "show", "--no-all-versions"}, names...)...)
	if err != nil {
		return nil, err
	}
	packages, err := selectPackages(index)
	if err != nil {
		return nil, err
	}
	if len(packages) != len(names) {
		return nil, fmt.Errorf("apt installs %d packages and shows %d", len(names), len(packages))
	}

	date, err := a.date()
	if err != nil {
		return nil, err
	}
	l := &PackageLock{Suite: o.Suite, Architecture: o.Architecture, Set: o.Set, Date: date, packages: packages}
	l.Include = slices.Compact(slices.Sorted(slices.Values(o.Include)))

	var b bytes.Buffer
	if _, err := l.WriteTo(&b); err != nil {
		return nil, err
	}
	return ParsePackageLock(&b) // what is written must be readable
}

// selectPackages reduces an index to the fields a lock keeps, sorted by
// package name.
func selectPackages(index []byte) ([]paragraph, error) {
	all, err := parseParagraphs(bytes.NewReader(index))
	if err != nil {
		return nil, err
	}
	var packages []paragraph
	for _, p := range all {
		var kept paragraph
		for _, name := range keptFields {
			if v := p.get(name); v != "" {
				kept = append(kept, field{name, v})
			}
		}
		packages = append(packages, kept)
	}
	key := func(p paragraph) string { return p.get("Package") + ":" + p.get("Architecture") }
	slices.SortFunc(packages, func(a, b paragraph) int { return strings.Compare(key(a), key(b)) })
	packages = slices.CompactFunc(packages, func(a, b paragraph) bool { return key(a) == key(b) })
	return packages, nil
}

// date is that of the newest index, by its own word.
func (a *privateApt) date() (time.Time, error) {
	files, err := filepath.Glob(a.path("var/lib/apt/lists/*Release"))
	if err != nil {
		return time.Time{}, err
	}

	var newest time.Time
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return time.Time{}, err
		}
		for line := range strings.Lines(string(b)) {
			value, ok := strings.CutPrefix(line, "Date:")
			if !ok {
				continue
			}
			date, err := time.Parse("Mon, _2 Jan 2006 15:04:05 MST", strings.TrimSpace(value))
			if err != nil {
				return time.Time{}, fmt.Errorf("date of an archive index: %w", err)
			}
			if date.After(newest) {
				newest = date
			}
		}
	}

	if newest.IsZero() {
		return newest, errors.New("no archive index has a date")
	}
	return newest.UTC(), nil
}
