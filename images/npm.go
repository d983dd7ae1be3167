package images

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// NPMPackage is one package that an npm lock installs.
type NPMPackage struct {
	Path    string // in the tree, such as "node_modules/a/node_modules/b"
	Name    string
	Version string
	License string // as the package states it; may be empty
	SHA512  []byte // of the package's archive; nil for what is part of another's
}

// NPMPackages lists what a package-lock.json (lockfileVersion 2 or 3) installs
// on a platform, without development dependencies, sorted by path. It refuses a
// lock that would install what it cannot verify, or from an address of its own.
func NPMPackages(lock []byte, platform string) ([]NPMPackage, error) {
	var doc struct {
		LockfileVersion int
		Packages        map[string]npmEntry
	}
	if err := json.Unmarshal(lock, &doc); err != nil {
		return nil, fmt.Errorf("read npm lock: %w", err)
	}

	if doc.LockfileVersion < 2 || len(doc.Packages) == 0 {
		return nil, fmt.Errorf("read npm lock: lockfileVersion %d has no list of packages: make it again with npm 9 or later", doc.LockfileVersion)
	}
	cpu := map[string]string{"amd64": "x64", "arm64": "arm64"}[Architecture(platform)]

	var all []NPMPackage
	for path, e := range doc.Packages {
		if path == "" || e.Dev || !e.OS.allows("linux") || !e.CPU.allows(cpu) || !e.Libc.allows("glibc") {
			continue
		}
		p, err := e.npmPackage(path)
		if err != nil {
			return nil, fmt.Errorf("read npm lock: %s: %w", path, err)
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b NPMPackage) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

type npmEntry struct {
	Name, Version, Integrity, Resolved string
	Dev, InBundle, Link                bool
	License                            any
	OS, CPU, Libc                      words
}

func (e npmEntry) npmPackage(path string) (NPMPackage, error) {
	p := NPMPackage{Path: path, Name: e.Name, Version: e.Version}
	p.License, _ = e.License.(string)
	if p.Name == "" {
		_, p.Name, _ = cutLast(path, "node_modules/")
	}

	switch {
	case e.Link || p.Name == "" || p.Version == "":
		return p, fmt.Errorf("it is no package of a registry")
	case e.Resolved != "":
		return p, fmt.Errorf("it has an address, %s: make the lock with --omit-lockfile-registry-resolved", e.Resolved)
	case e.Integrity == "" && !e.InBundle:
		return p, fmt.Errorf("it has no integrity hash")
	case e.Integrity == "":
		return p, nil
	}

	encoded, ok := strings.CutPrefix(e.Integrity, "sha512-")
	sum, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(sum) != 64 {
		return p, fmt.Errorf("its integrity %q is no SHA-512", e.Integrity)
	}
	p.SHA512 = sum
	return p, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// words is a JSON string or list of strings.
type words []string

// UnmarshalJSON implements json.Unmarshaler.
func (w *words) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*w = words{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(w))
}

// allows tells whether a list of npm's, of which "!x" excludes x, takes what.
func (w words) allows(what string) bool {
	positive := false
	for _, s := range w {
		if no, ok := strings.CutPrefix(s, "!"); ok {
			if no == what {
				return false
			}
			continue
		}
		if s == what {
			return true
		}
		positive = true
	}
	return !positive
}
