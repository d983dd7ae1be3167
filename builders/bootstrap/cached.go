package bootstrap

import (
	"runtime"
)

// CachedTools returns the tools tree for this machine's architecture when the
// cache has it. It fetches nothing.
func (c Cache) CachedTools() (*Tools, bool) {
	l, err := LoadPackageLock(ToolsSuite, runtime.GOARCH, "tools")
	if err != nil {
		return nil, false
	}
	dir, ok := c.Store().Find(toolsRecipe(l))
	if !ok {
		return nil, false
	}
	t, err := newTools(dir)
	return t, err == nil
}

// ToolVersions tells the versions of the tools tree's packages that shape an
// image, by package name.
func ToolVersions() (map[string]string, error) {
	l, err := LoadPackageLock(ToolsSuite, runtime.GOARCH, "tools")
	if err != nil {
		return nil, err
	}
	versions := map[string]string{}
	for _, p := range l.Packages() {
		switch p.Name {
		case "e2fsprogs", "grub-pc-bin", "grub-efi-amd64-bin", "grub-efi-arm64-bin", "nodejs", "npm", "qemu-utils":
			versions[p.Name] = p.Version
		}
	}
	return versions, nil
}
