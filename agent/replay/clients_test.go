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
	misses  []string // of the kinds of change, those that it does not notice
	restart bool     // it says "run" again for whatever it notices
}

// script runs watch.cjs.
func script(kind string, misses ...string) client {
	return client{command: func(packages, dir string) []string {
		return []string{"node", filepath.Join(packages, "watch.cjs"), kind, dir}
	}, misses: misses}
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
	}, restart: true},
	"node --watch": {command: func(_, dir string) []string {
		return []string{"node", "--watch", filepath.Join(dir, "app.js")}
	}, restart: true, misses: []string{"create", "modify", "delete", "rename", "nested"}}, // it watches what the program imports
	"PM2": {command: func(packages, dir string) []string {
		return []string{filepath.Join(packages, "node_modules/.bin/pm2"), "start", filepath.Join(dir, "app.js"), "--watch", dir, "--no-daemon", "--raw"}
	}, restart: true},
}

// change is one kind of what is done on the host.
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

// TestClients runs real watchers on the guest's side. Each must notice each
// kind of change, but those that it is said to miss, and it must miss those, so
// that what README says stays true.
func TestClients(t *testing.T) {
	packages := os.Getenv(clientsEnv)
	if packages == "" {
		t.Skipf("%s names no directory with the packages of testdata/clients", clientsEnv)
	}
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			s := mountShare(t)
			do(t, os.Mkdir(filepath.Join(s.host, "src"), 0o755))
			for _, f := range []string{"modified", "deleted", "renamed"} {
				write(t, "before", s.host, "src", f+".txt")
			}
			write(t, program, s.host, "app.js")
			j := join(t, s, nil)
			lines := start(t, c.command(packages, s.guest))
			if c.restart {
				lines.await(t, "run")
			} else if name != "inotifywait" {
				lines.await(t, "ready")
			}
			time.Sleep(1500 * time.Millisecond) // what it begins with is over

			for _, kind := range kinds {
				lines.clear()
				kind.do(t, s.host)
				j.settle(t)
				noticed := lines.some(3 * time.Second)
				t.Logf("%-8s %v", kind.name, noticed)
				if missed := len(noticed) == 0; missed != slices.Contains(c.misses, kind.name) {
					t.Errorf("%s: missed is %v", kind.name, missed)
				}
				time.Sleep(time.Second)
			}
		})
	}
}

// output is what a client says.
type output struct {
	mu    sync.Mutex
	lines []string
}

// start runs a client until the test ends.
func start(t *testing.T, argv []string) *output {
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
	t.Cleanup(func() { cancel(); <-read; _ = cmd.Wait() })
	return o
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
