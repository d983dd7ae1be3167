package podman

import (
	"slices"
	"strings"
	"testing"
)

const someStatus = `Package: bash
Essential: yes
Status: install ok installed
Description: a shell
 Package: not-this
 .
 Status: install ok installed

Package: removed
Status: deinstall ok config-files

Package: postgresql-17
Status: install ok installed
Architecture: amd64

Package: half
Status: install ok unpacked

Package: libstdc++6
Status: hold ok installed`

func TestReadPackages(t *testing.T) {
	has, err := readPackages(strings.NewReader(someStatus))
	if err != nil {
		t.Fatal(err)
	}
	if got := missingIn(map[string]bool{"bash": true, "other": true}, has); !slices.Equal(got, []string{"libstdc++6", "postgresql-17"}) {
		t.Errorf("%q", got)
	}
	if _, err := readPackages(strings.NewReader("Package: " + strings.Repeat("a", 2*maxStatusLine))); err == nil {
		t.Error("a line without an end is read")
	}
}

// FuzzReadPackages: a workspace's root may write what it likes.
func FuzzReadPackages(f *testing.F) {
	for _, s := range []string{someStatus, "Package: a\x1b[2J\nStatus: install ok installed", "Package:\nStatus: x installed\n\n\nPackage", "Status: a installed"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		has, err := readPackages(strings.NewReader(s))
		if err != nil {
			return
		}
		for name := range has {
			if !packageName.MatchString(name) || !strings.Contains(s, name) {
				t.Errorf("%q is no package of %q", name, s)
			}
		}
	})
}
