package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
	"golang.org/x/crypto/ssh"

	"github.com/rockpool/rootvm/guest"
)

func TestWriteConfigDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), ConfigDisk)
	want := guest.Config{Version: 1, Hostname: "h", UID: 1001, GID: 100, Share: "rockpool", Ports: guest.Ports{SSH: 2222, Dashboard: 8080, IDE: 8081, Preview: 8082},
		Credentials: guest.Credentials{Username: "admin", PasswordHash: "$2y$10$abc"}}
	for range 2 { // the second replaces the first
		if err := WriteConfigDisk(path, want, "ssh-ed25519 AAAA me\n"); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: it holds credentials", info.Mode(), err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// ECMA-119 8.4: the primary volume descriptor is in sector 16, its volume identifier at 40.
	if label := strings.TrimRight(string(b[16*2048+40:16*2048+72]), " \x00"); label != "ROCKPOOL" {
		t.Errorf("label %q", label)
	}
	image, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	fs, err := iso9660.Read(file.New(image, true), info.Size(), 0, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var got guest.Config
	if err := json.Unmarshal(readISO(t, fs, "/config.json"), &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("config.json: %+v, %v", got, err)
	}
	if keys := readISO(t, fs, "/authorized_keys"); string(keys) != "ssh-ed25519 AAAA me\n" {
		t.Errorf("authorized_keys: %q", keys)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func readISO(t *testing.T, fs *iso9660.FileSystem, name string) []byte {
	t.Helper()
	f, err := fs.OpenFile(name, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEnsureKey(t *testing.T) {
	inst := Instance{Dir: t.TempDir(), Config: Config{Name: "one"}}
	line, err := ensureKey(inst)
	if err != nil {
		t.Fatal(err)
	}
	if key, comment, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err != nil || key.Type() != "ssh-ed25519" || comment != "one" {
		t.Errorf("%q: %v", line, err)
	}
	if info, err := os.Stat(inst.Path(keyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("private key: %v, %v", info.Mode(), err)
	}
	if again, err := ensureKey(inst); err != nil || again != line {
		t.Errorf("made another key: %v", err)
	}
	os.WriteFile(inst.Path(keyFile), []byte("damaged"), 0o600)
	if _, err := ensureKey(inst); err == nil || !strings.Contains(err.Error(), "remove") {
		t.Errorf("a damaged key: %v", err)
	}
}

func TestTryLock(t *testing.T) {
	dir := t.TempDir()
	first, err := tryLock(dir, "x.lock")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tryLock(dir, "x.lock"); !errors.Is(err, errLocked) {
		t.Errorf("second: %v", err)
	}
	first.Unlock()
	if _, err := tryLock(dir, "x.lock"); err != nil {
		t.Errorf("after unlocking: %v", err)
	}
}

func TestState_survivesDamage(t *testing.T) {
	dir := t.TempDir()
	if s, err := readState(dir); err != nil || s.Status != Stopped {
		t.Errorf("no file: %+v, %v", s, err)
	}
	if err := writeState(dir, State{Name: "n", Status: Ready, Phases: []Phase{{"kernel", 1.5}}}); err != nil {
		t.Fatal(err)
	}
	if s, err := readState(dir); err != nil || s.Status != Ready || len(s.Phases) != 1 {
		t.Errorf("written: %+v, %v", s, err)
	}
	os.WriteFile(filepath.Join(dir, stateFile), []byte("{\"status\": \"re"), 0o600)
	if s, err := readState(dir); err != nil || s.Status != Stopped || s.Name != filepath.Base(dir) {
		t.Errorf("damaged: %+v, %v", s, err)
	}
}

func TestDialUnix_longPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second takes the place of a dead listener
		l, err := ListenUnix(dir, "a.sock")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := DialUnix(t.Context(), dir, "a.sock")
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		l.Close()
	}
}

func TestLinkedSocketPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path, done, err := linkedSocketPath(dir, "a.sock")
	if err != nil || len(path) > maxSocketPath {
		t.Fatalf("%q, %v", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := os.Lstat(filepath.Join(dir, "a.sock")); err != nil {
		t.Errorf("the socket is elsewhere: %v", err)
	}
	done()
	if _, err := os.Lstat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link stays: %v", err)
	}
	if path, _, err := linkedSocketPath("/short", "a.sock"); err != nil || path != "/short/a.sock" {
		t.Errorf("a short path: %q, %v", path, err)
	}
}

func TestCrashWatch(t *testing.T) {
	tests := []struct {
		name, want string
		pieces     []string
	}{
		{"quiet", "", []string{"[ 1.0] Linux version 6.12\n", "login: "}},
		{"panic", "[   2.1] Kernel panic - not syncing: VFS: Unable to mount root fs", []string{"[   2.1] Kernel pan", "ic - not syncing: VFS: Unable to mount root fs\r\n[ 2.2] CPU"}},
		{"oops", "[   9.9] Oops: int3: 0000 [#1] PREEMPT SMP", []string{"x\n[   9.9] Oops: int3: 0000 [#1] PREEMPT SMP\n"}},
		{"stall", "[   24.4] rcu: rcu_preempt kthread timer wakeup didn't happen for 5243 jiffies! g-1071", []string{"[   24.4] rcu: rcu_preempt kthread timer wakeup didn't happen for 5243 jiffies! g-1071\r\n"}},
		{"a word", "", []string{"oops, no Oopsie\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w crashWatch
			got := ""
			for _, piece := range tt.pieces {
				if line := w.feed([]byte(piece)); line != "" {
					got = line
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLastLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), SerialLog)
	os.WriteFile(path, []byte("one\r\n\n\x1b[1;31mtwo\x1b[0m\x07\nthree"), 0o600)
	if got := lastLines(path, 2); strings.Join(got, "|") != "two|three" {
		t.Errorf("got %q", got)
	}
	if got := lastLines(path+"x", 2); got != nil {
		t.Errorf("no file: %q", got)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	os.WriteFile(path, []byte("old new"), 0o600)
	got := make(chan []byte)
	go tail(t.Context(), path, 4, func(b []byte) { got <- bytes.Clone(b) })
	if b := <-got; string(b) != "new" {
		t.Errorf("got %q", b)
	}
	os.WriteFile(path, []byte("x"), 0o600) // another file, shorter
	if b := <-got; string(b) != "x" {
		t.Errorf("after it was replaced: %q", b)
	}
}

func TestRemoteLine(t *testing.T) {
	for _, tt := range []struct {
		command []string
		want    string
	}{
		{[]string{"echo $HOME | wc"}, "echo $HOME | wc"},
		{[]string{"echo", "it's", "$HOME"}, `'echo' 'it'\''s' '$HOME'`},
	} {
		if got := remoteLine(tt.command); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.command, got, tt.want)
		}
	}
}

func TestLockSupervisor_WaitsForTheOneBefore(t *testing.T) {
	dir := t.TempDir()
	first, err := lockSupervisor(t.Context(), dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockSupervisor(t.Context(), dir, false); !errors.Is(err, errLocked) {
		t.Errorf("without waiting: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lockSupervisor(ended, dir, true); err == nil {
		t.Error("it was taken from one that lives")
	}
	got := make(chan error, 1)
	go func() {
		_, err := lockSupervisor(t.Context(), dir, true)
		got <- err
	}()
	if err := first.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("when it is free: %v", err)
	}
}
