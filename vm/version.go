package vm

import (
	"fmt"
	"regexp"
	"strconv"
)

// Version is a program's version, such as {10, 0}.
type Version [2]int

var versionForm = regexp.MustCompile(`(\d+)\.(\d+)`)

// ParseVersion finds the version in what a program says of itself.
func ParseVersion(text string) (v Version, found bool) {
	m := versionForm.FindStringSubmatch(text)
	if m == nil {
		return v, false
	}
	for i := range v {
		v[i], _ = strconv.Atoi(m[i+1])
	}
	return v, true
}

// Less compares versions.
func (v Version) Less(w Version) bool { return v[0] < w[0] || v[0] == w[0] && v[1] < w[1] }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v[0], v[1]) }
