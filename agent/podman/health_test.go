//go:build remote

package podman

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// ide is an IDE that answers a look at its health, and its address.
func ide(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestHealth_Healthy(t *testing.T) {
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string // in the error, "" is healthy
	}{
		"well":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"status":"alive"}`)) }, ""},
		"badly":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "502"},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) }, "302"},
		"for ever": {func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, healthSize)); err != nil {
					return
				}
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			err := Health{Client: http.DefaultClient}.Healthy(t.Context(), ide(t, tt.answer))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if time.Since(start) >= healthTime {
				t.Error("the answer was not left where enough of it was read")
			}
		})
	}
}

// TestHealth_redirect: a workspace cannot send the agent, which the firewall
// lets through, to an address of its choice.
func TestHealth_redirect(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var fetched atomic.Int32
		private := ide(t, func(http.ResponseWriter, *http.Request) { fetched.Add(1) })
		address := ide(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+private+"/secret", status)
		})
		client := &http.Client{}
		if err := (Health{Client: client}).Healthy(t.Context(), address); err == nil {
			t.Errorf("%d: a redirect is healthy", status)
		}
		if n := fetched.Load(); n != 0 {
			t.Errorf("%d: what it led to was fetched %d times", status, n)
		}
		if client.CheckRedirect != nil {
			t.Error("the caller's client was changed")
		}
	}
}
