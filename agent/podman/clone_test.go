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

// repository serves /repo.git to everybody.
func repository(t *testing.T) http.Handler {
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
	return &cgi.Handler{Path: git, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"}}
}

// guard lets only who has the token through to h.
func guard(token string, h http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, got, _ := r.BasicAuth(); got != token {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	}
}

// serve returns the address of a server for h.
func serve(t *testing.T, start func(http.Handler) *httptest.Server, h http.Handler) string {
	t.Helper()
	s := start(h)
	t.Cleanup(s.Close)
	return s.URL
}

// clone runs the script as a workspace would, and returns its exit code.
func clone(t *testing.T, home, url, folder, token string) int {
	t.Helper()
	code, out := runClone(t, home, url, folder, token)
	t.Logf("%s", out)
	return code
}

// runClone returns what the script said, too. Its patience with a silent server
// is a second.
func runClone(t *testing.T, home, url, folder, token string) (int, string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", cloneScript, "clone", url, folder, home+"/log")
	cmd.Env = append([]string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}, cloneEnv...)
	cmd.Env = append(cmd.Env, "GIT_HTTP_LOW_SPEED_TIME=1")
	cmd.Stdin = strings.NewReader(token + "\n")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), string(out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, string(out)
}

// configure writes the user's configuration of git.
func configure(t *testing.T, home, config string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCloneScript(t *testing.T) {
	const token = "a-t0ken with 'quotes' and %s"
	origin := serve(t, httptest.NewServer, guard(token, repository(t)))
	url := origin + "/repo.git"
	home := t.TempDir()
	// Helpers of the user's own that would write the token down.
	configure(t, home, "[credential]\n\thelper = store\n[credential \""+origin+"\"]\n\thelper = store\n")
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

// TestCloneScript_stranger: wherever the origin sends git, the token stays
// with the origin.
func TestCloneScript_stranger(t *testing.T) {
	const token = "t0ken"
	git := repository(t)
	everything := func(*http.Request) bool { return true }
	posts := func(r *http.Request) bool { return r.Method == http.MethodPost }
	for name, tt := range map[string]struct {
		start func(http.Handler) *httptest.Server // of the origin
		host  string                              // of the stranger; the origin's is 127.0.0.1
		asks  func(*http.Request) bool            // whether the stranger wants to know who it is
		first bool                                // the origin wants to know before it sends git away
	}{
		"another port":    {httptest.NewServer, "127.0.0.1", everything, false},
		"another host":    {httptest.NewServer, "localhost", everything, false},
		"plain http":      {httptest.NewTLSServer, "127.0.0.1", everything, false},
		"asks later":      {httptest.NewServer, "localhost", posts, false},
		"after the token": {httptest.NewServer, "localhost", everything, true},
	} {
		t.Run(name, func(t *testing.T) {
			var reached atomic.Int32
			stranger := serve(t, httptest.NewServer, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				reached.Add(1)
				if told := r.Header.Get("Authorization"); told != "" {
					t.Errorf("%s %s tells the stranger %q", r.Method, r.URL, told)
				}
				if tt.asks(r) {
					guard(token, git)(w, r)
					return
				}
				git.ServeHTTP(w, r)
			}))
			stranger = strings.Replace(stranger, "127.0.0.1", tt.host, 1)
			away := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, stranger+r.URL.String(), http.StatusFound)
			}))
			if tt.first {
				away = guard(token, away)
			}
			home := t.TempDir()
			configure(t, home, "[http]\n\tsslVerify = false\n")
			if code := clone(t, home, serve(t, tt.start, away)+"/repo.git", home+"/x", token); code != exitFailed {
				t.Errorf("clone: %d", code)
			}
			if reached.Load() == 0 {
				t.Error("git did not go to the stranger: nothing was tested")
			}
		})
	}
}

// TestCloneScript_submodules: those of the repository's origin are cloned with
// the token, those of another without, and one that fails is said and not fatal.
func TestCloneScript_submodules(t *testing.T) {
	const token = "t0ken"
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed: apt install git")
	}
	var told atomic.Int32
	open := repository(t)
	stranger := serve(t, httptest.NewServer, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			told.Add(1)
		}
		open.ServeHTTP(w, r)
	}))
	private := serve(t, httptest.NewServer, guard("another token", repository(t)))

	dir := t.TempDir()
	script := `git() { command git -c user.name=a -c user.email=a@b -c protocol.file.allow=always -c init.defaultBranch=main "$@"; }
		git init -q lib && git -C lib commit -q --allow-empty -m x
		git init -q work && cd work
		add() { git update-index --add --cacheinfo 160000,"$(git -C ../lib rev-parse HEAD)",$1; git config -f .gitmodules submodule.$1.path $1; git config -f .gitmodules submodule.$1.url "$2"; }
		add own ../lib.git
		git config -f .gitmodules submodule.theirs.path theirs
		git config -f .gitmodules submodule.theirs.url "$1/repo.git"
		git update-index --add --cacheinfo 160000,"$2",theirs
		[ -z "$3" ] || add private "$3/repo.git"
		git add .gitmodules && git commit -q -m y
		cd .. && git clone -q --bare work work.git && git clone -q --bare lib lib.git`
	head := exec.Command(git, "ls-remote", stranger+"/repo.git", "HEAD")
	out, err := head.Output()
	if err != nil {
		t.Fatal(err)
	}
	commit := strings.Fields(string(out))[0]

	for name, third := range map[string]string{"all": "", "one fails": private} {
		t.Run(name, func(t *testing.T) {
			base := filepath.Join(dir, name)
			if err := os.Mkdir(base, 0o755); err != nil {
				t.Fatal(err)
			}
			run := exec.Command("sh", "-euc", script, "sh", stranger, commit, third)
			run.Dir = base
			if out, err := run.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			served := &cgi.Handler{Path: git, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + base, "GIT_HTTP_EXPORT_ALL=1"}}
			origin := serve(t, httptest.NewServer, guard(token, served))
			home := t.TempDir()
			if code := clone(t, home, origin+"/work.git", home+"/x", token); code != 0 {
				t.Fatalf("clone: %d", code)
			}
			if third == "" {
				if _, err := os.Stat(home + "/x/theirs/README.md"); err != nil {
					t.Errorf("the submodule of another origin: %v", err)
				}
			}
			if _, err := os.Stat(home + "/x/own/.git"); err != nil {
				t.Errorf("the submodule of the repository's origin: %v", err)
			}
			said, _ := os.ReadFile(home + "/log")
			if (third != "") != strings.Contains(string(said), "rockpool: not all submodules of "+origin) || strings.Contains(string(said), token) {
				t.Errorf("said %q", said)
			}
		})
	}
	if told.Load() != 0 {
		t.Error("the other origin was told the token")
	}
}

// TestCloneScript_origin: the origin gets the token, however it is written.
func TestCloneScript_origin(t *testing.T) {
	const token = "t0ken"
	git := guard(token, repository(t))
	moved := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path, old := strings.CutPrefix(r.URL.String(), "/old.git"); old {
			http.Redirect(w, r, "/repo.git"+path, http.StatusMovedPermanently)
			return
		}
		git(w, r)
	})
	plain, secure := serve(t, httptest.NewServer, moved), serve(t, httptest.NewTLSServer, moved)
	for name, url := range map[string]string{
		"http":     plain + "/repo.git",
		"https":    secure + "/repo.git",
		"moved":    plain + "/old.git",
		"userinfo": strings.Replace(plain, "//", "//some%40body@", 1) + "/repo.git",
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			configure(t, home, "[http]\n\tsslVerify = false\n[credential]\n\tuseHttpPath = true\n")
			if code := clone(t, home, url, home+"/x", token); code != 0 {
				t.Errorf("clone: %d", code)
			}
		})
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
