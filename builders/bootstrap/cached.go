package bootstrap

import (
	"path/filepath"
	"runtime"
)

// CachedTools returns the tools tree for this machine's architecture when the
// cache has it. It fetches nothing.
func (c Cache) CachedTools() (*Tools, bool) {
	l, err := Lock(toolsSuite, runtime.GOARCH, "tools")
	if err != nil {
		return nil, false
	}
	t := &Tools{Dir: filepath.Join(c.Dir, "tools", l.Digest()[:32])}
	return t, t.complete()
}
