package images

import (
	"bufio"
	"embed"
	"fmt"
	"slices"
	"strings"
)

// NodeLock is the npm lock with Node.js and npm, a directory of the checkout.
const NodeLock = "images/workspace/node"

//go:embed workspace/packages
var lists embed.FS

// Packages returns the names of the Debian packages that the workspace image of
// a suite and architecture asks for, sorted and without their dependencies. It
// comes from workspace/packages: workspace.txt and the additions of the suite
// and the architecture, where there are some.
//
// It panics when the embedded list is missing, which a test excludes.
func Packages(suite, arch string) []string {
	var all []string
	for _, part := range []string{"", "." + suite, "." + arch} {
		name := "workspace/packages/workspace" + part + ".txt"
		b, err := lists.ReadFile(name)
		if err != nil && part == "" {
			panic(fmt.Sprintf("%s: %v", name, err))
		}
		all = append(all, parseNames(string(b))...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// parseNames reads a list with one name a line and comments from "#" to the
// end of the line, as scripts/packages.sh does.
func parseNames(list string) []string {
	var names []string
	for s := bufio.NewScanner(strings.NewReader(list)); s.Scan(); {
		name, _, _ := strings.Cut(s.Text(), "#")
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}
