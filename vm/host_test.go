package vm

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHost_waitEndsWithLastWord has the supervisor say how the machine ended,
// and end, between a wait's look at the state and its look at the supervisor.
func TestHost_waitEndsWithLastWord(t *testing.T) {
	ready := func(ctx context.Context, h Host) error {
		_, err := h.WaitReady(ctx, "one", time.Minute, nil)
		return err
	}
	ssh := func(ctx context.Context, h Host) error {
		_, err := h.reachable(ctx, "one")
		return err
	}
	for _, tt := range []struct {
		name string
		seen Status
		wait func(context.Context, Host) error
		want string
	}{
		{"WaitReady", Starting, ready, "one failed: it crashed"},
		{"reachable, starting", Starting, ssh, "one is failed: not running"},
		{"reachable, ready", Ready, ssh, "one is failed: not running"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			host := Host{Dir: t.TempDir()}
			dir := filepath.Join(host.Dir, "one")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			c := validConfig()
			c.Name = "one"
			if err := writeJSON(filepath.Join(dir, configFile), c); err != nil {
				t.Fatal(err)
			}
			supervisor := exec.Command("sleep", "600")
			if err := supervisor.Start(); err != nil {
				t.Fatal(err)
			}
			defer supervisor.Process.Kill()
			p, err := Identify("supervisor", supervisor.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			seen := State{Name: "one", Status: tt.seen, Supervisor: p}

			looks := newLooks(t, filepath.Join(dir, stateFile))
			waited := make(chan error, 1)
			go func() { waited <- tt.wait(ctx, host) }()
			looks.next(t, ctx)
			looks.answer(t, seen)
			looks.next(t, ctx) // the supervisor was alive when it came to this one
			supervisor.Process.Kill()
			supervisor.Wait()
			if err := writeState(dir, State{Name: "one", Status: Failed, Failure: &Failure{Message: "it crashed"}}); err != nil {
				t.Fatal(err)
			}
			looks.answer(t, seen)
			select {
			case err = <-waited:
			case <-ctx.Done():
				t.Fatal("the wait does not end")
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to say %q", err, tt.want)
			}
		})
	}
}

// looks is a state file that the test knows to be read, and answers: a pipe,
// and another one for the next look.
type looks struct {
	path string
	out  *os.File
}

func newLooks(t *testing.T, path string) *looks {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return &looks{path: path}
}

// next waits until somebody reads the state.
func (l *looks) next(t *testing.T, ctx context.Context) {
	t.Helper()
	for {
		fd, err := syscall.Open(l.path, syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
		if err == nil {
			l.out = os.NewFile(uintptr(fd), l.path)
			break
		}
		if !errors.Is(err, syscall.ENXIO) {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			t.Fatal("nobody reads the state")
		case <-time.After(time.Millisecond):
		}
	}
	if err := syscall.Mkfifo(l.path+".next", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(l.path+".next", l.path); err != nil {
		t.Fatal(err)
	}
}

// answer lets the one who reads it go on.
func (l *looks) answer(t *testing.T, s State) {
	t.Helper()
	err := json.NewEncoder(l.out).Encode(s)
	if err := errors.Join(err, l.out.Close()); err != nil {
		t.Fatal(err)
	}
}
