package guest_test

import (
	"testing"

	"github.com/rockpool/rootvm/guest"
)

// TestWorkspaceMemory: the rest is what the machinery needs, more in larger VMs,
// and in the smallest ones half.
func TestWorkspaceMemory(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct{ total, want int64 }{
		{960 * mib, 448 * mib},
		{1960 * mib, 1152 * mib},
		{3910 * mib, 3008 * mib},
		{3913*mib + 17, 3008 * mib},
		{15990 * mib, 14336 * mib},
	} {
		if got := guest.WorkspaceMemory(tt.total); got != tt.want {
			t.Errorf("of %d MiB: %d MiB, want %d", tt.total/mib, got/mib, tt.want/mib)
		}
	}
}
