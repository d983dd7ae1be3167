package replay_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// clientsEnv names a directory in which the packages of
// testdata/clients/package-lock.json are installed:
//
//	cp -r agent/replay/testdata/clients DIR && npm --prefix DIR ci
const clientsEnv = "ROCKPOOL_WATCHERS"

// client is a real program that watches files.
type client struct {
	command func(packages, dir string) []string
	begins  string // it says so once it watches
}

// script runs watch.cjs.
func script(kind string) client {
	return client{command: func(packages, dir string) []string {
		return []string{"node", filepath.Join(packages, "watch.cjs"), kind, dir}
	}, begins: "ready"}
}

var clients = map[string]client{
	"inotifywait": {command: func(_, dir string) []string {
		return []string{"inotifywait", "-m", "-r", "--format", "%e %w%f", dir}
	}},
	"chokidar 3":          script("chokidar-3"),
	"chokidar 3, polling": script("chokidar-3-polling"),
	"chokidar 5":          script("chokidar-5"),
	"chokidar 5, polling": script("chokidar-5-polling"),
	"Vite":                script("vite"),
	"fs.watch":            script("fs.watch"),
	"nodemon": {command: func(packages, dir string) []string {
		return []string{filepath.Join(packages, "node_modules/.bin/nodemon"), "--quiet", "--ext", "js,txt", "--watch", dir, filepath.Join(dir, "app.js")}
	}, begins: "run"},
	"node --watch": {command: func(_, dir string) []string {
		return []string{"node", "--watch", filepath.Join(dir, "app.js")}
	}, begins: "run"},
	"PM2": {command: func(packages, dir string) []string {
		return []string{"sh", "-c", `cd "$1" && exec "$2"/node_modules/.bin/pm2-runtime start app.js --watch`, "sh", dir, packages}
	}, begins: "run"},
}

// kinds are what is done on the host.
var kinds = []struct {
	name string
	do   func(t *testing.T, host string)
}{
	{"create", func(t *testing.T, host string) { write(t, "new", host, "src/new.txt") }},
	{"modify", func(t *testing.T, host string) { write(t, "after, longer", host, "src/modified.txt") }},
	{"program", func(t *testing.T, host string) { write(t, program+"// after", host, "app.js") }},
	{"replace", func(t *testing.T, host string) {
		write(t, program+"// replaced", host, ".app.js.tmp")
		do(t, os.Rename(filepath.Join(host, ".app.js.tmp"), filepath.Join(host, "app.js")))
	}},
	{"again", func(t *testing.T, host string) { write(t, program+"// after it was replaced", host, "app.js") }},
	{"delete", func(t *testing.T, host string) { do(t, os.Remove(filepath.Join(host, "src/deleted.txt"))) }},
	{"rename", func(t *testing.T, host string) {
		do(t, os.Rename(filepath.Join(host, "src/renamed.txt"), filepath.Join(host, "src/moved.txt")))
	}},
	{"nested", func(t *testing.T, host string) {
		do(t, os.MkdirAll(filepath.Join(host, "src/a/b/c"), 0o755))
		write(t, "new", host, "src/a/b/c/new.txt")
	}},
}

const program = "console.log('run'); setInterval(() => {}, 1000);\n"

// TestClients runs real watchers, first in a directory in which the changes are
// made, then on the guest's side of a share. There each must notice every kind
// of change that it notices in the first.
func TestClients(t *testing.T) {
	packages := os.Getenv(clientsEnv)
	if packages == "" {
		t.Skipf("%s names no directory with the packages of testdata/clients", clientsEnv)
	}
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			local := t.TempDir()
			here := c.notices(t, packages, local, local, func() {})
			s := mountShare(t)
			var j *joined
			there := c.notices(t, packages, s.host, s.guest, func() {
				if j == nil {
					j = join(t, s, nil)
				}
				j.settle(t)
			})
			if len(slices.Concat(here...)) == 0 {
				t.Error("it notices nothing at all")
			}
			for i, kind := range kinds {
				t.Logf("%-8s %q, here %q", kind.name, there[i], here[i])
				if len(there[i]) == 0 && len(here[i]) > 0 {
					t.Errorf("%s is missed", kind.name)
				}
			}
		})
	}
}

// notices returns what a client says of each kind of change that is made on the
// host's side.
func (c client) notices(t *testing.T, packages, host, guest string, settle func()) (said [][]string) {
	t.Helper()
	do(t, os.Mkdir(filepath.Join(host, "src"), 0o755))
	for _, f := range []string{"modified", "deleted", "renamed"} {
		write(t, "before", host, "src", f+".txt")
	}
	write(t, program, host, "app.js")
	settle()
	lines, stop := start(t, c.command(packages, guest))
	defer stop()
	if c.begins != "" {
		lines.await(t, c.begins)
	}
	time.Sleep(1500 * time.Millisecond) // what it begins with is over

	for _, kind := range kinds {
		lines.clear()
		kind.do(t, host)
		settle()
		said = append(said, lines.some(3*time.Second))
		time.Sleep(time.Second)
	}
	return said
}

// output is what a client says.
type output struct {
	mu    sync.Mutex
	lines []string
}

// start runs a client, and returns what ends it.
func start(t *testing.T, argv []string) (*output, func()) {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Skip("needs ", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "PM2_HOME="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stdout, err := cmd.StdoutPipe()
	do(t, err)
	cmd.Stderr = cmd.Stdout
	do(t, cmd.Start())
	o := &output{}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			o.mu.Lock()
			o.lines = append(o.lines, s.Text())
			o.mu.Unlock()
		}
	}()
	return o, func() { _ = cmd.Cancel(); <-read; _ = cmd.Wait(); cancel() }
}

func (o *output) clear() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = nil
}

// some waits until something was said and then a little longer, and returns it.
func (o *output) some(wait time.Duration) []string {
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		o.mu.Lock()
		got := len(o.lines)
		o.mu.Unlock()
		if got > 0 {
			time.Sleep(300 * time.Millisecond)
			break
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.lines)
}

// await waits for a line.
func (o *output) await(t *testing.T, word string) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		o.mu.Lock()
		found := slices.ContainsFunc(o.lines, func(s string) bool { return strings.Contains(s, word) })
		o.mu.Unlock()
		if found {
			return
		}
	}
	t.Fatal(fmt.Sprint("it does not say ", word, ": ", o.lines))
}
