package provision

import (
	"bufio"
	"fmt"
	"slices"
	"strings"
)

// Packages returns the names of the Debian packages that the Root VM image of
// a suite and architecture asks for, sorted and without their dependencies.
// It comes from packages/rootvm.txt and the additions of the suite and the
// architecture; a suite or architecture without additions has none.
//
// It panics when an embedded list is malformed, which a test excludes.
func Packages(suite, arch string) []string {
	var all []string
	for _, part := range []string{"", "." + suite, "." + arch} {
		b, err := lists.ReadFile("packages/rootvm" + part + ".txt")
		if err != nil {
			continue
		}
		names, err := parsePackages(string(b))
		if err != nil {
			panic(fmt.Sprintf("packages/rootvm%s.txt: %v", part, err))
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// parsePackages reads a list with one Debian package name a line and comments
// from "#" to the end of the line.
func parsePackages(list string) ([]string, error) {
	var names []string
	s := bufio.NewScanner(strings.NewReader(list))
	for n := 1; s.Scan(); n++ {
		name, _, _ := strings.Cut(s.Text(), "#")
		name = strings.TrimSpace(name)
		if name == "" {
			continue
		}
		if !isPackageName(name) {
			return nil, fmt.Errorf("line %d: %q is not the name of a package", n, name)
		}
		names = append(names, name)
	}
	return names, s.Err()
}

// isPackageName follows Debian Policy 5.6.1: lower case letters, digits, plus,
// minus and full stops, at least two of them, the first alphanumeric.
func isPackageName(name string) bool {
	if len(name) < 2 || strings.ContainsAny(name[:1], "+-.") {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789+-.") == ""
}
