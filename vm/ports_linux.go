package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// portOwner names the process that listens on a port.
func portOwner(port int) string { return portOwnerIn("/proc", port) }

// portOwnerIn looks for it below the proc file system at proc.
func portOwnerIn(proc string, port int) string {
	inodes := map[string]bool{}
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		b, err := os.ReadFile(filepath.Join(proc, table))
		if err == nil {
			listeners(string(b), port, inodes)
		}
	}
	links, _ := filepath.Glob(filepath.Join(proc, "[0-9]*/fd/*"))
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !inodes[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(dir))
	}
	return unseenOwner + " (`sudo ss -ltnp` names it)"
}
