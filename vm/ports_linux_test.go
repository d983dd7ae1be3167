package vm

import (
	"strings"
	"testing"
)

func TestPortOwner_invisible(t *testing.T) {
	if got := portOwnerIn(t.TempDir(), 80); !strings.Contains(got, "cannot see") {
		t.Errorf("got %q", got)
	}
}
