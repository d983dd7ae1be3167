package podman

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// dpkgStatus is where Debian keeps which packages there are. It is written by
// dpkg, and in a workspace by whoever is root there.
// https://manpages.debian.org/trixie/dpkg/dpkg-query.1.en.html
const dpkgStatus = "/var/lib/dpkg/status"

const (
	// maxStatus bounds how much of it is read, in bytes; a thousand packages are
	// about one million.
	maxStatus = 32 << 20
	// maxStatusLine bounds a line of it. What is longer is no package's name.
	maxStatusLine = 1 << 20
)

// packageName is what a package's name looks like, by Debian's policy, 5.6.1.
var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,127}$`)

// readPackages lists the packages that are installed by what dpkg says.
func readPackages(r io.Reader) (map[string]bool, error) {
	lines := bufio.NewScanner(io.LimitReader(r, maxStatus))
	lines.Buffer(nil, maxStatusLine)
	found := map[string]bool{}
	name, installed := "", false
	keep := func() {
		if installed && packageName.MatchString(name) {
			found[name] = true
		}
		name, installed = "", false
	}

	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		switch {
		case lines.Text() == "":
			keep()
		case key == "Package":
			name = strings.TrimSpace(value)
		case key == "Status":
			installed = strings.HasSuffix(value, " installed")
		}
	}
	keep()
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the list of packages: %w", err)
	}
	return found, nil
}

// missingIn lists packages of one system that another has not, in order.
func missingIn(other, has map[string]bool) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(has)), func(name string) bool { return other[name] })
}
