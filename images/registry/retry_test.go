package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
)

// TestPasses: what is tried again.
func TestPasses(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		reached bool
		want    bool
	}{
		"cut off":         {fmt.Errorf("writing blob: %w", io.ErrUnexpectedEOF), false, true},
		"interrupted":     {context.Canceled, true, false},
		"no such blob":    {os.ErrNotExist, true, false},
		"a wrong digest":  {errors.New("digest did not match"), true, false},
		"nobody there":    {refused(t), false, false},
		"nobody any more": {refused(t), true, true},
	} {
		if got := passes(c.err, c.reached); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// refused is what a client says of an address where nobody listens.
func refused(t *testing.T) error {
	t.Helper()
	server := httptest.NewServer(nil)
	server.Close()
	_, err := http.Get(server.URL)
	if err == nil {
		t.Fatal("somebody listens")
	}
	return err
}
