package provision

import (
	"io/fs"
	"slices"
	"testing"
)

func TestPackages(t *testing.T) {
	for _, suite := range []string{"trixie", "bookworm"} {
		for _, arch := range []string{"amd64", "arm64"} {
			got := Packages(suite, arch)
			if !slices.IsSorted(got) {
				t.Errorf("Packages(%q, %q) is not sorted", suite, arch)
			}
			for _, want := range []string{"podman", "caddy", "openssh-server", "linux-image-" + arch} {
				if !slices.Contains(got, want) {
					t.Errorf("Packages(%q, %q) lacks %s", suite, arch, want)
				}
			}
		}
	}
	if slices.Contains(Packages("bookworm", "amd64"), "systemd-repart") {
		t.Error("bookworm has no package systemd-repart")
	}
}

// TestPackages_ListsParse covers every list, also those of suites and
// architectures that no other test names.
func TestPackages_ListsParse(t *testing.T) {
	names, err := fs.Glob(lists, "packages/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatalf("no lists: %v", err)
	}
	for _, list := range names {
		b, err := lists.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		packages, err := parsePackages(string(b))
		if err != nil {
			t.Errorf("%s: %v", list, err)
		}
		if sorted := slices.Sorted(slices.Values(packages)); len(slices.Compact(sorted)) != len(packages) {
			t.Errorf("%s names a package twice", list)
		}
	}
}

func TestParsePackages_Malformed(t *testing.T) {
	for _, list := range []string{"Caddy", "a", "two words", "-x", "git;rm"} {
		if names, err := parsePackages(list); err == nil {
			t.Errorf("parsePackages(%q) = %q, want an error", list, names)
		}
	}
}
