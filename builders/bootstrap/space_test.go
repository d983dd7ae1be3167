package bootstrap

import (
	"strings"
	"testing"
)

func TestNeedSpace(t *testing.T) {
	if err := NeedSpace(t.TempDir(), 1, "x"); err != nil {
		t.Error(err)
	}
	err := NeedSpace(t.TempDir(), 1<<60, "set ROCKPOOL_CACHE")
	if err == nil || !strings.Contains(err.Error(), "set ROCKPOOL_CACHE") || !strings.Contains(err.Error(), "free and the build needs") {
		t.Errorf("error = %v", err)
	}
}
