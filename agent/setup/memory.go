package setup

import (
	"context"
	"fmt"
	"os"
	"path"

	"github.com/rockpool/rootvm/guest"
)

// limitMemory tells the manager of the service user, which starts after this,
// how much all workspaces may use together.
func (s *Setup) limitMemory(context.Context) (string, error) {
	f, err := os.Open(s.path("/proc/meminfo"))
	if err != nil {
		return "", fmt.Errorf("read the size of the memory: %w", err)
	}
	defer f.Close()
	total, err := guest.MemTotal(f)
	if err != nil {
		return "", err
	}

	limit := guest.WorkspaceMemory(total)
	if err := os.MkdirAll(s.path(path.Dir(guest.WorkspaceMemoryFile)), 0o755); err != nil {
		return "", fmt.Errorf("limit the workspaces' memory: %w", err)
	}
	content := fmt.Sprintf("[Slice]\nMemoryMax=%d\n", limit)
	if err := s.replaceIfChanged(guest.WorkspaceMemoryFile, []byte(content), 0o644, 0, 0); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d MiB for workspaces, of %d", limit>>20, total>>20), nil
}
