//go:build !e2e

package vm

import (
	"os"
	"testing"
)

// TestMain lets the test binary play the supervisor of a fake.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "as-supervisor" {
		os.Exit(superviseEchoing(os.Args[2:]))
	}
	os.Exit(m.Run())
}
