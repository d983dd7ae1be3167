//go:build remote

package podman

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containers/podman/v5/libpod/define"
	"github.com/containers/podman/v5/pkg/errorhandling"

	"github.com/rockpool/rootvm/agent"
)

func TestCloneResult(t *testing.T) {
	c := agent.Clone{URL: "https://x/y", Folder: "/home/admin/y", Token: "t0ken"}
	for _, tt := range []struct {
		code   int
		output string
		want   string
	}{
		{0, "", ""},
		{exitNoGit, "", agent.CodeValidation},
		{exitTaken, "", agent.CodeConflict},
		{exitFailed, "fatal: Authentication failed for 'https://x/y'", agent.CodeValidation},
		{exitFailed, "fatal: unable to access 'https://x/y/': Could not resolve host: not found", agent.CodeInternal},
		{exitFailed, "remote: fatal: repository 'https://x/y' not found\nfatal: the remote end hung up unexpectedly", agent.CodeInternal},
		{exitFailed, "remote: error: 403\nfatal: unable to access 'https://x/y/': The requested URL returned error: 503", agent.CodeInternal},
		{exitFailed, "remote: error: unpack: No space left on device\nfatal: the remote end hung up unexpectedly", agent.CodeInternal}, // the server's
		{exitFailed, "fatal: unable to access 'https://x/y/': Failed to connect to x port 443 after 1 ms: Network is unreachable", agent.CodeInternal},
		{exitFailed, "error: RPC failed; curl 28 Operation too slow. Less than 1 bytes/sec transferred the last 120 seconds", agent.CodeInternal},
		{exitFailed, "fatal: write error: No space left on device", agent.CodeNoSpace},
		{exitFailed, "fatal: sha1 file '/x' write error. Out of diskspace: Disk quota exceeded", agent.CodeNoSpace},
		{1, "mkdir: cannot create directory '/home/admin/y': No space left on device", agent.CodeNoSpace},
		{137, "", agent.CodeInternal},
	} {
		err := cloneResult(tt.code, tt.output, c)
		if agent.ErrorCode(err) != tt.want {
			t.Errorf("%d %q: %v, want %q", tt.code, tt.output, err, tt.want)
		}
	}
}

// TestCloneResult_Secrets: neither a token nor what an address says of a user
// is told, in no text and no log.
func TestCloneResult_Secrets(t *testing.T) {
	c := agent.Clone{URL: "https://user:passw0rd@x/y?private_token=qu3ry", Folder: "/home/admin/y", Token: "t0ken"}
	for _, code := range []int{1, exitFailed} {
		for _, output := range []string{
			"password t0ken refused",
			"fatal: could not read Password for 'https://user:passw0rd@x': terminal prompts disabled",
			"fatal: something about https://user:passw0rd@x/y?private_token=qu3ry and t0ken\x1b[2J",
			"fatal: unable to access 'https://t0ken@x/y?private_token=qu3ry/': odd",
		} {
			text := cloneResult(code, output, c).Error()
			for _, secret := range []string{"t0ken", "passw0rd", "qu3ry", "user:", "\x1b"} {
				if strings.Contains(text, secret) {
					t.Errorf("%d %q tells %q: %s", code, output, secret, text)
				}
			}
		}
	}
}

// TestClone_Reasons clones from real servers with the git of this machine, and
// wants one sentence that says what happened.
func TestClone_Reasons(t *testing.T) {
	answers := func(status int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	}
	silent := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	repository(t) // or there is no git

	for name, tt := range map[string]struct {
		origin, token string
		final         bool
		want          string
	}{
		"missing":     {serve(t, httptest.NewServer, answers(404)), "", true, "it does not exist, or needs a token that may read it."},
		"forbidden":   {serve(t, httptest.NewServer, answers(403)), "t0ken", true, "it does not exist, or needs a token that may read it."},
		"no token":    {serve(t, httptest.NewServer, guard("other", answers(200))), "", true, "its server asks for authentication: give a token that may read it."},
		"wrong token": {serve(t, httptest.NewServer, guard("other", answers(200))), "t0ken", true, "its server did not accept the authentication: check the token."},
		"certificate": {serve(t, httptest.NewTLSServer, answers(200)), "t0ken", true, "the certificate of its server is not trusted."},
		"host":        {"http://nowhere.invalid", "", false, "its host is not known. Check the name, and the network of the VM."},
		"nobody":      {nobody, "", false, "its server cannot be reached: nothing accepts the connection."},
		"broken":      {serve(t, httptest.NewServer, answers(503)), "", false, "its server is busy or broken at the moment."},
		"silent":      {serve(t, httptest.NewServer, silent), "", false, "its server does not answer."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := agent.Clone{URL: tt.origin + "/a/b.git", Folder: t.TempDir() + "/b", Token: tt.token}
			code, output := runClone(t, t.TempDir(), c.URL, c.Folder, c.Token)
			e, ok := errors.AsType[*agent.Error](cloneResult(code, output, c))
			if !ok || e.Message != fmt.Sprintf("The repository %s was not cloned: %s", c.URL, tt.want) || (e.Code == agent.CodeValidation) != tt.final {
				t.Errorf("%+v, want %q; git said %d:\n%s", e, tt.want, code, output)
			}
		})
	}
}

func TestImageFault(t *testing.T) {
	for text, want := range map[string]string{
		`initializing source docker://x/y:latest: reading manifest latest in x/y: manifest unknown`:                                         agent.CodeValidation,
		"initializing source docker://x/y: reading manifest latest in x/y: errors:\ndenied: requested access\nunauthorized: authentication": agent.CodeValidation,
		`initializing source docker://x/y: Requesting bearer token: invalid status code from registry 403 (Forbidden)`:                      agent.CodeValidation,
		`parsing reference "UPPER": invalid reference format: repository name must be lowercase`:                                            agent.CodeValidation,
		`short-name "y" did not resolve to an alias and no unqualified-search registries are defined`:                                       agent.CodeValidation,
		// What passes by itself, with words that look alike.
		`pinging container registry x: Get "https://x/v2/": dial tcp: lookup x: no such host`:                     agent.CodeInternal,
		`pinging container registry x: Get "https://x/v2/": dial tcp: lookup x: server not found, try again`:      agent.CodeInternal,
		`pinging container registry x: Get "https://x/v2/": dial tcp 1.2.3.4:443: connect: permission denied`:     agent.CodeInternal,
		`initializing source docker://denied/unauthorized: reading manifest: received unexpected HTTP status 503`: agent.CodeInternal,
		`writing blob: write /var/x: no space left on device`:                                                     agent.CodeNoSpace,
	} {
		err := fault(t.Context(), "create", imageFault(t.Context(), "x/y", errors.New(text)))
		if agent.ErrorCode(err) != want {
			t.Errorf("%q: %v (%s), want %s", text, err, agent.ErrorCode(err), want)
		}
	}
	e, ok := errors.AsType[*agent.Error](imageFault(t.Context(), "x/y", errors.New("dial tcp: lookup x: no such host")))
	if want := `The image "x/y" could not be pulled: no such host.`; !ok || e.Message != want {
		t.Errorf("%+v, want %q", e, want)
	}
}

// TestFault_Causes: Podman's own errors are known by the whole cause that it
// names, not by words somewhere in a text.
func TestFault_Causes(t *testing.T) {
	for name, tt := range map[string]struct {
		model errorhandling.ErrorModel
		want  string
	}{
		"no program":      {errorhandling.ErrorModel{ResponseCode: 500, Because: define.ErrOCIRuntimeNotFound.Error(), Message: "crun: x"}, agent.CodeValidation},
		"full":            {errorhandling.ErrorModel{ResponseCode: 500, Because: "no space left on device", Message: "x"}, agent.CodeNoSpace},
		"quota":           {errorhandling.ErrorModel{ResponseCode: 500, Message: "crun: mkdir `x`: Disk quota exceeded"}, agent.CodeNoSpace},
		"a name that is":  {errorhandling.ErrorModel{ResponseCode: 500, Message: "no container named no space left on device here"}, agent.CodeInternal},
		"another's words": {errorhandling.ErrorModel{ResponseCode: 500, Because: "x", Message: define.ErrOCIRuntimeNotFound.Error()}, agent.CodeInternal},
	} {
		if got := fault(t.Context(), "op", &tt.model); agent.ErrorCode(got) != tt.want {
			t.Errorf("%s: %v, want %q", name, got, tt.want)
		}
	}
}
