package vm

import (
	"fmt"
	"os"
)

// socketPath is a short path of the socket called name in dir: through a
// descriptor of dir, which done closes.
func socketPath(dir, name string) (path string, done func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, fmt.Errorf("open socket %s: %w", name, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name), func() { d.Close() }, nil
}
