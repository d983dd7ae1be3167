//go:build remote

package podman

import (
	"errors"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// server is a git server whose repository only a token opens.
func server(t *testing.T, token string) (address string, asked *atomic.Int32) {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed: apt install git")
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(git, append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	run("init", "-q", "work")
	if err := os.WriteFile(filepath.Join(dir, "work/README.md"), []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run("-C", "work", "add", ".")
	run("-C", "work", "commit", "-qm", "x")
	run("clone", "-q", "--bare", "work", "repo.git")
	backend := &cgi.Handler{Path: git, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"}}
	asked = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, got, _ := r.BasicAuth(); got != token {
			asked.Add(1)
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/repo.git", asked
}

// clone runs the script as a workspace would, and returns its exit code.
func clone(t *testing.T, home, url, folder, token string) int {
	t.Helper()
	cmd := exec.Command("sh", "-c", cloneScript, "clone", url, folder)
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "GIT_TERMINAL_PROMPT=0", "GIT_PROTOCOL_FROM_USER=0"}
	cmd.Stdin = strings.NewReader(token + "\n")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0
}

func TestCloneScript(t *testing.T) {
	const token = "a-t0ken with 'quotes' and %s"
	url, _ := server(t, token)
	home := t.TempDir()
	// A helper of the user's own that would write the token down.
	config := "[credential]\n\thelper = store\n"
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(home, "deep/er/project")
	if code := clone(t, home, url, folder, "wrong"); code != exitFailed {
		t.Errorf("a wrong token: %d", code)
	}
	if code := clone(t, home, url, folder, ""); code != exitFailed {
		t.Errorf("no token: %d", code)
	}
	if left, _ := filepath.Glob(filepath.Join(home, "deep/er/.*clone")); left != nil {
		t.Errorf("a failed clone left %q", left)
	}
	// What a clone that was killed leaves, and the folder that Configure made.
	for _, d := range []string{folder, filepath.Join(home, "deep/er/.project.rockpool-clone/.git")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if code := clone(t, home, url, folder, token); code != 0 {
		t.Fatalf("clone: %d", code)
	}
	readme := filepath.Join(folder, "README.md")
	if err := os.WriteFile(readme, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code := clone(t, home, url, folder, "wrong"); code != 0 {
		t.Errorf("again: %d", code)
	}
	if b, err := os.ReadFile(readme); err != nil || string(b) != "mine" {
		t.Errorf("the work tree was not left alone: %q, %v", b, err)
	}
	if code := clone(t, home, url+"-other", folder, token); code != exitTaken {
		t.Errorf("another repository's work tree: %d", code)
	}
	if code := clone(t, home, "ext::sh -c touch% "+home+"/pwned", home+"/e", token); code != exitFailed {
		t.Errorf("a protocol that runs programs: %d", code)
	}
	err := filepath.WalkDir(home, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		if strings.Contains(string(b), "a-t0ken") || d.Name() == "pwned" {
			t.Errorf("%s holds %q", p, b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCloneScript_Shellcheck(t *testing.T) {
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("shellcheck is not installed: apt install shellcheck")
	}
	if out, err := exec.Command(shellcheck, "-s", "sh", "clone.sh").CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}
