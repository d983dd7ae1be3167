package settings

import (
	"fmt"
	"path/filepath"
)

// Directory finds the product's own directories below those of the XDG Base
// Directory Specification.
type Directory struct {
	Getenv  func(string) string
	HomeDir func() (string, error)
}

// Cache sets a directory of what can be made again, unless it is set.
func (d Directory) Cache(dir *string) error {
	return d.fill(dir, "ROCKPOOL_CACHE", "XDG_CACHE_HOME", ".cache")
}

// State sets the directory of the user's data, unless it is set.
func (d Directory) State(dir *string) error {
	return d.fill(dir, "ROCKPOOL_STATE", "XDG_STATE_HOME", filepath.Join(".local", "state"))
}

// fill takes the base from the variable xdg, else from the home directory. own
// is the variable that would have set dir.
func (d Directory) fill(dir *string, own, xdg, belowHome string) error {
	if *dir != "" {
		return nil
	}
	base := d.Getenv(xdg)
	if !filepath.IsAbs(base) { // the specification has such a one ignored
		home, err := d.HomeDir()
		if err != nil {
			return fmt.Errorf("no home directory: set HOME, or %s: %w", own, err)
		}
		base = filepath.Join(home, belowHome)
	}
	*dir = filepath.Join(base, "rockpool-root-vm")
	return nil
}
