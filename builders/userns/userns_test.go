package userns_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/rockpool/rootvm/builders/userns"
	"github.com/rockpool/rootvm/builders/userns/usernstest"
)

// sh runs a command line in the root file system.
func sh(t *testing.T, r *userns.Root, command string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := r.Command(t.Context(), "/bin/sh", "-c", command)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestNamespace_Tar(t *testing.T) {
	r := usernstest.New(t)
	n := r.Namespace
	epoch := time.Unix(1700000000, 0)
	_, stderr, status := sh(t, r, "cd /root; touch b a; chown 5:7 a; chmod 4755 b; ln b c; mkfifo pipe; echo x >/tmp/gone; mkdir -p /var/tmp; echo y >/var/tmp/kept")
	if status != 0 {
		t.Fatal(stderr)
	}

	var first bytes.Buffer
	if err := n.Tar(t.Context(), r.Dir, &first, epoch); err != nil {
		t.Fatal(err)
	}

	copied := r.Dir + ".copy"
	t.Cleanup(func() { _ = n.RemoveAll(copied) })
	if err := n.Untar(t.Context(), copied, bytes.NewReader(first.Bytes())); err != nil {
		t.Fatal(err)
	}

	var second bytes.Buffer
	if err := n.Tar(t.Context(), copied, &second, epoch); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the archive of an extracted archive differs from it")
	}

	seen := map[string]*tar.Header{}
	var names []string
	for tr := tar.NewReader(&second); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen[h.Name], names = h, append(names, h.Name)
		if h.ModTime.After(epoch) || h.Uname != "" {
			t.Errorf("%s: modified %v by %q", h.Name, h.ModTime, h.Uname)
		}
	}

	if a := seen["./root/a"]; a == nil || a.Uid != 5 || a.Gid != 7 {
		t.Errorf("./root/a: %+v, want owner 5:7", a)
	}
	if b := seen["./root/b"]; b == nil || b.Mode != 0o4755 {
		t.Errorf("./root/b: %+v, want mode 4755", b)
	}
	if c := seen["./root/c"]; c == nil || c.Typeflag != tar.TypeLink {
		t.Errorf("./root/c: %+v, want a hard link", c)
	}
	if seen["./tmp/gone"] != nil || seen["./var/tmp/kept"] == nil || seen["./tmp/"] == nil {
		t.Errorf("contents of /tmp, and nothing else, must be left out: %v", names)
	}
}

// TestInterruptible: a command that cleans up when it gets SIGTERM is let to, and
// one that does not is killed.
func TestInterruptible(t *testing.T) {
	n, err := userns.New()
	if err != nil {
		t.Skipf("no namespaces on this machine: %v", err)
	}

	for name, c := range map[string]struct{ trap, said string }{
		"Ends": {"echo cleaned up; exit", "cleaned up\n"},
		"Goes": {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			cmd := n.Command(ctx, "bash", "-c", "trap '"+c.trap+"' TERM; echo ready >&2; while :; do sleep 0.1; done")
			userns.Interruptible(cmd)
			cmd.WaitDelay = time.Second
			var said bytes.Buffer
			cmd.Stdout = &said
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(stderr, make([]byte, len("ready\n"))); err != nil {
				t.Fatal(err)
			}

			cancel()
			if err := cmd.Wait(); err == nil {
				t.Error("no error from an interrupted command")
			}
			if said.String() != c.said {
				t.Errorf("it said %q, want %q", said.String(), c.said)
			}
		})
	}
}

func TestNamespace_RemoveAll(t *testing.T) {
	r := usernstest.New(t)
	if _, _, status := sh(t, r, "mkdir -m 0700 /root/x; touch /root/x/y; chown -R 33:33 /root/x"); status != 0 {
		t.Fatalf("status %d", status)
	}
	for range 2 {
		if err := r.Namespace.RemoveAll(r.Dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(r.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}
