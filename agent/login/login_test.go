package login_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
	"github.com/rockpool/rootvm/agent/login"
)

const (
	hash  = "$2a$04$j82lVES7GMYMSw..4q1mau0W9ixkgc.sAbn.xs5Y9jgNH/16ODtme" // of right
	right = "secret"
	limit = 30
)

// door is a login whose slow hash the test sees, and may hold.
type door struct {
	*login.Login
	now    time.Time
	hashed atomic.Int32
}

func newDoor() *door {
	d := &door{now: time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)}
	d.Login = &login.Login{
		Username: "admin", Hash: func() string { return hash }, Now: func() time.Time { return d.now },
		Compare: func(_, password []byte) error {
			d.hashed.Add(1)
			if string(password) != right {
				return errors.New("no")
			}
			return nil
		},
	}
	return d
}

// enter tries a password from a source and returns the code of the refusal and
// the answer's headers.
func (d *door) enter(password, source, device string) (code string, header http.Header) {
	return d.enterAt("srv0", password, source, device)
}

// enterAt is enter by way of one of Caddy's servers.
func (d *door) enterAt(server, password, source, device string) (code string, header http.Header) {
	r := httptest.NewRequest("GET", "/", nil)
	if password != "" {
		r.SetBasicAuth("admin", password)
	}
	r.Header.Set("X-Forwarded-For", source)
	r.Header.Set(api.HeaderDevice, device)
	r.Header.Set(api.HeaderServer, server)
	w := httptest.NewRecorder()
	_, err := d.Enter(w, r)
	return agent.ErrorCode(err), w.Header()
}

func TestLogin_Enter(t *testing.T) {
	d := newDoor()
	for _, tt := range []struct{ name, password, code string }{
		{"admin", right, ""}, {"admin", "wrong", agent.CodeUnauthorized}, {"root", right, agent.CodeUnauthorized}, {"", right, agent.CodeUnauthorized}, {"admin", "", agent.CodeUnauthorized},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth(tt.name, tt.password)
		w := httptest.NewRecorder()
		name, err := d.Enter(w, r)
		if agent.ErrorCode(err) != tt.code || err == nil && name != "admin" {
			t.Errorf("%s, %s: %q, %v", tt.name, tt.password, name, err)
		}
		if r.Header.Get("Authorization") != "" {
			t.Error("the credentials go on")
		}
		if (w.Header().Get("WWW-Authenticate") != "") != (err != nil) {
			t.Errorf("%s, %s: headers %v", tt.name, tt.password, w.Header())
		}
	}
	if code, _ := d.enter("", "192.0.2.1", ""); code != agent.CodeUnauthorized {
		t.Errorf("no credentials: %q", code)
	}

	d.Hash = func() string { return "" }
	if code, _ := d.enter(right, "192.0.2.1", ""); code != agent.CodeUnavailable {
		t.Errorf("no password is set: %q", code)
	}
}

// TestLogin_Enter_real uses bcrypt, and looks at a password that was right once
// without it.
func TestLogin_Enter_real(t *testing.T) {
	d := newDoor()
	d.Compare = nil
	for _, password := range []string{right, "wrong", right} {
		if code, _ := d.enter(password, "192.0.2.1", ""); (code == "") != (password == right) {
			t.Errorf("%s: %q", password, code)
		}
	}
}

// TestLogin_Enter_limits: a source may guess so often and then waits, whatever
// it tries; others do not.
func TestLogin_Enter_limits(t *testing.T) {
	d := newDoor()
	if code, _ := d.enter(right, "192.0.2.9", ""); code != "" {
		t.Fatal(code)
	}
	for n := range limit {
		if code, _ := d.enter("wrong", "192.0.2.1", ""); code != agent.CodeUnauthorized {
			t.Fatalf("guess %d: %q", n, code)
		}
	}
	hashed := d.hashed.Load()
	for _, password := range []string{"wrong", right} { // or the refusal would tell which
		code, header := d.enter(password, "192.0.2.1", "")
		if code != agent.CodeTooMany || header.Get("Retry-After") != "5" {
			t.Errorf("%s after all guesses: %q, %v", password, code, header)
		}
	}
	if d.hashed.Load() != hashed {
		t.Error("a guess too many cost a hash")
	}
	if code, _ := d.enter(right, "192.0.2.2", ""); code != "" {
		t.Errorf("another source: %q", code)
	}

	d.now = d.now.Add(5 * time.Second)
	if code, _ := d.enter("wrong", "192.0.2.1", ""); code != agent.CodeUnauthorized {
		t.Errorf("a guess after a while: %q", code)
	}
	if code, _ := d.enter("wrong", "192.0.2.1", ""); code != agent.CodeTooMany {
		t.Errorf("two guesses after a while: %q", code)
	}
	d.now = d.now.Add(5 * time.Second)
	if code, _ := d.enter(right, "192.0.2.1", ""); code != "" {
		t.Errorf("the right one after a while: %q", code)
	}
}

// TestLogin_Enter_lastGuess: who lost the last guess to another request is told
// when to come again, too.
func TestLogin_Enter_lastGuess(t *testing.T) {
	d := newDoor()
	for range limit {
		d.enter("wrong", "192.0.2.1", "")
	}
	first := true
	d.Now = func() time.Time { // at first there is a guess left, and then no more
		if first {
			first = false
			return d.now.Add(5 * time.Second)
		}
		return d.now
	}
	code, header := d.enter("wrong", "192.0.2.1", "")
	if first || code != agent.CodeTooMany || header.Get("Retry-After") != "5" {
		t.Errorf("%q, %v", code, header)
	}
}

// TestLogin_Enter_home: addresses of one home in IPv6 are one source.
func TestLogin_Enter_home(t *testing.T) {
	d := newDoor()
	for n := range limit {
		source := "2001:db8::" + string("0123456789abcdef"[n%16])
		if code, _ := d.enter("wrong", source, ""); code != agent.CodeUnauthorized {
			t.Fatalf("guess %d: %q", n, code)
		}
	}
	if code, _ := d.enter("wrong", "2001:db8::ffff", ""); code != agent.CodeTooMany {
		t.Errorf("one more of the same home: %q", code)
	}
	if code, _ := d.enter("wrong", "2001:db8:0:1::1", ""); code != agent.CodeUnauthorized {
		t.Errorf("another home: %q", code)
	}
}

// TestLogin_Enter_device: who was let in before is not kept out by guesses from
// the same address.
func TestLogin_Enter_device(t *testing.T) {
	d := newDoor()
	_, header := d.enter(right, "10.0.2.2", "")
	cookie, err := http.ParseSetCookie(header.Get("Set-Cookie"))
	if err != nil || cookie.Name != api.DeviceCookie || !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode {
		t.Fatalf("cookie %v, %v", cookie, err)
	}
	for range limit {
		d.enter("wrong", "10.0.2.2", "")
	}
	if code, header := d.enter(right, "10.0.2.2", cookie.Value); code != "" || header.Get("Set-Cookie") != "" {
		t.Errorf("the known browser: %q, %v", code, header)
	}
	forged := []string{"", "x", strings.Repeat("A", 26) + ".", strings.Repeat("A", 26) + cookie.Value[26:], cookie.Value[:27], cookie.Value + "x"}
	for _, device := range forged {
		if code, _ := d.enter(right, "10.0.2.2", device); code != agent.CodeTooMany {
			t.Errorf("the browser %q: %q", device, code)
		}
	}
	for range limit { // the cookie is no way to guess more
		d.enter("wrong", "10.0.2.2", cookie.Value)
	}
	if code, _ := d.enter(right, "10.0.2.2", cookie.Value); code != agent.CodeTooMany {
		t.Errorf("the known browser after its own guesses: %q", code)
	}

	d.Hash = func() string { return hash + " " }
	if code, _ := d.enter(right, "10.0.2.2", cookie.Value); code != agent.CodeTooMany {
		t.Errorf("the known browser after the password changed: %q", code)
	}
}

// TestLogin_Enter_servers: guesses that a page in a preview makes in the user's
// own browser keep nobody out of the dashboard, or of an IDE.
func TestLogin_Enter_servers(t *testing.T) {
	d := newDoor()
	_, header := d.enter(right, "10.0.2.2", "")
	cookie, err := http.ParseSetCookie(header.Get("Set-Cookie"))
	if err != nil {
		t.Fatal(err)
	}
	for name, device := range map[string]string{"known": cookie.Value, "unknown": ""} {
		for range limit {
			d.enterAt("srv2", "wrong", "10.0.2.2", device)
		}
		if code, _ := d.enterAt("srv2", right, "10.0.2.2", device); code != agent.CodeTooMany {
			t.Errorf("previews, %s: %q", name, code)
		}
		for _, server := range []string{"srv0", "srv1"} {
			if code, _ := d.enterAt(server, right, "10.0.2.2", device); code != "" {
				t.Errorf("%s, %s: %q", server, name, code)
			}
		}
	}
}

// TestLogin_Enter_quick: the right password does not wait for wrong ones, at
// first from a browser that is known, and then from any.
func TestLogin_Enter_quick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor()
		d.Now = time.Now
		_, header := d.enter(right, "10.0.2.2", "")
		cookie, err := http.ParseSetCookie(header.Get("Set-Cookie"))
		if err != nil {
			t.Fatal(err)
		}

		d = newDoor() // as after a restart: it knows no password
		d.Now = time.Now
		d.Compare = func(_, password []byte) error {
			time.Sleep(50 * time.Millisecond)
			if string(password) != right {
				return errors.New("no")
			}
			return nil
		}
		var wrong sync.WaitGroup
		defer wrong.Wait()
		for range 20 {
			wrong.Go(func() { d.enter("wrong", "10.0.2.2", "") })
		}
		synctest.Wait()
		start := time.Now()
		if code, _ := d.enter(right, "10.0.2.2", cookie.Value); code != "" || time.Since(start) > 50*time.Millisecond {
			t.Errorf("the first right one: %q after %s", code, time.Since(start))
		}
		start = time.Now()
		if code, _ := d.enter(right, "10.0.2.2", ""); code != "" || time.Since(start) > 0 {
			t.Errorf("the next: %q after %s", code, time.Since(start))
		}
	})
}

// TestLogin_Enter_sources: who comes from ever new addresses does not take the
// memory.
func TestLogin_Enter_sources(t *testing.T) {
	d := newDoor()
	refused := 0
	for n := range 4096 + 100 {
		source := fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&255, n&255)
		if code, _ := d.enter("wrong", source, ""); code == agent.CodeTooMany {
			refused++
		}
	}
	if refused != 100-limit {
		t.Errorf("%d of the last hundred were refused, want %d", refused, 100-limit)
	}
	d.now = d.now.Add(time.Hour)
	if code, _ := d.enter("wrong", "192.0.2.1", ""); code != agent.CodeUnauthorized {
		t.Errorf("a new source an hour later: %q", code)
	}
}

func TestHashFile(t *testing.T) {
	var log bytes.Buffer
	f := login.HashFile{Path: filepath.Join(t.TempDir(), "hash"), Log: slog.New(slog.NewTextHandler(&log, nil))}
	if got := f.Hash(); got != "" {
		t.Errorf("no file: %q", got)
	}
	for _, tt := range []struct{ content, want string }{{hash + "\n", hash}, {"no hash", hash}, {"", hash}, {strings.Replace(hash, "j", "k", 1), strings.Replace(hash, "j", "k", 1)}} {
		if err := os.WriteFile(f.Path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := f.Hash(); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.content, got, tt.want)
		}
		f.Hash() // says it once
	}
	if n := strings.Count(log.String(), "the one before stays"); n != 2 {
		t.Errorf("%d lines:\n%s", n, &log)
	}
}
