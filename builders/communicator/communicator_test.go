package communicator

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/rockpool/rootvm/builders/userns"
	"github.com/rockpool/rootvm/builders/userns/usernstest"
)

// testRoot is a root file system and its communicator.
type testRoot struct {
	*userns.Root
	*Communicator
}

func rootFS(t *testing.T) testRoot {
	t.Helper()
	root := usernstest.New(t)
	return testRoot{root, New(root)}
}

// sh runs a command line through Start.
func sh(t *testing.T, c packersdk.Communicator, command string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := &packersdk.RemoteCmd{Command: command, Stdout: &out, Stderr: &errs}
	if err := c.Start(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	status = cmd.Wait()
	return out.String(), errs.String(), status
}

func TestCommunicator_Start(t *testing.T) {
	r := rootFS(t)
	r.Env = []string{"GREETING=good day"}
	for name, tc := range map[string]struct {
		command, stdout, stderr string
		status                  int
	}{
		"Streams":       {"echo out; echo err >&2", "out\n", "err\n", 0},
		"Status":        {"exit 7", "", "", 7},
		"Signal":        {"kill -KILL $$", "", "", 137},
		"Root":          {"id -u; id -g", "0\n0\n", "", 0},
		"Environment":   {`echo "$HOME $GREETING $DEBIAN_FRONTEND ${XDG_RUNTIME_DIR-}"`, "/root good day noninteractive \n", "", 0},
		"Devices":       {"echo x >/dev/null; dd if=/dev/zero bs=1 count=2 2>/dev/null | cat | { read -r l; echo ${#l}; }; ls /dev/pts/ptmx /dev/shm /dev/fd/0", "0\n/dev/fd/0\n/dev/pts/ptmx\n\n/dev/shm:\n", "", 0},
		"Ownership":     {"touch /etc/f; chown 101:65534 /etc/f; stat -c %u:%g /etc/f", "101:65534\n", "", 0},
		"Processes":     {"ls -d /proc/1 /proc/self", "/proc/1\n/proc/self\n", "", 0},
		"NoServices":    {"/usr/sbin/policy-rc.d", "", "", 101},
		"ReadOnlySys":   {"mkdir /sys/x 2>/dev/null || echo refused", "refused\n", "", 0},
		"OutlivesShell": {"sleep 600 & echo started", "started\n", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, status := sh(t, r, tc.command)
			if stdout != tc.stdout || stderr != tc.stderr || status != tc.status {
				t.Errorf("got %q, %q, %d; want %q, %q, %d", stdout, stderr, status, tc.stdout, tc.stderr, tc.status)
			}
		})
	}
}

func TestCommunicator_Start_LeavesNothing(t *testing.T) {
	r := rootFS(t)
	if _, _, status := sh(t, r, "cat /usr/sbin/policy-rc.d >/dev/null"); status != 0 {
		t.Fatalf("status %d", status)
	}
	for _, made := range []string{"usr/sbin/policy-rc.d", "dev/null", "proc/self"} {
		if _, err := os.Lstat(filepath.Join(r.Dir, made)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", made, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), r.Dir) {
		t.Error("something is still mounted below the root file system")
	}
}

// TestCommunicator_Start_NoNetwork: a command reaches not even a server on the
// host's loopback interface, which one outside reaches.
func TestCommunicator_Start_NoNetwork(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	dial := fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d", server.Addr().(*net.TCPAddr).Port)
	outside, err := userns.New()
	if err != nil {
		t.Skip(err)
	}
	if out, err := outside.Command(t.Context(), "bash", "-c", dial).CombinedOutput(); err != nil {
		t.Fatalf("the server cannot be reached at all: %v: %s", err, out)
	}

	r := rootFS(t)
	if out, err := r.Namespace.Command(t.Context(), "bash", "-c", dial).CombinedOutput(); err == nil || !strings.Contains(string(out), "unreachable") {
		t.Errorf("%v: %q: want a network that is unreachable", err, out)
	}
	out, _, _ := sh(t, r, "cat /proc/net/dev")
	if strings.Count(out, "\n") != 3 || !strings.Contains(out, " lo:") {
		t.Errorf("it has the interfaces %q", out)
	}
}

func TestCommunicator_Start_Stdin(t *testing.T) {
	r := rootFS(t)
	endless, w := io.Pipe()
	defer w.Close()
	for name, stdin := range map[string]io.Reader{"Read": strings.NewReader("fed"), "EndlessUnread": endless} {
		t.Run(name, func(t *testing.T) {
			command, want := "cat", "fed"
			if name != "Read" {
				command, want = "echo done", "done\n"
			}
			var out bytes.Buffer
			cmd := &packersdk.RemoteCmd{Command: command, Stdin: stdin, Stdout: &out}
			if err := r.Start(t.Context(), cmd); err != nil {
				t.Fatal(err)
			}
			if status := cmd.Wait(); status != 0 || out.String() != want {
				t.Errorf("got %q, status %d; want %q", out.String(), status, want)
			}
		})
	}
}

func TestCommunicator_Start_Cancelled(t *testing.T) {
	r := rootFS(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// The argument of sleep is how the test finds the processes.
	mark := fmt.Sprintf("86400.%d", os.Getpid())
	pipeReader, pipeWriter := io.Pipe()
	cmd := &packersdk.RemoteCmd{Command: "trap '' TERM INT HUP; (sleep " + mark + ") & echo up; sleep " + mark, Stdout: pipeWriter}
	if err := r.Start(ctx, cmd); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(pipeReader, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if status := cmd.Wait(); status != packersdk.CmdDisconnect {
		t.Errorf("status %d, want CmdDisconnect", status)
	}
	waitFor(t, "the processes of a cancelled command end", func() bool { return !running(t, mark) })
}

// TestCommunicator_Start_CallerKilled runs itself as the caller that is killed.
func TestCommunicator_Start_CallerKilled(t *testing.T) {
	if dir := os.Getenv("USERNS_TEST_ROOT"); dir != "" {
		cmd := &packersdk.RemoteCmd{Command: "echo up; sleep " + os.Getenv("USERNS_TEST_MARK"), Stdout: os.Stdout}
		n, err := userns.New()
		if err != nil {
			t.Fatal(err)
		}
		if err := New(n.Chroot(dir)).Start(context.Background(), cmd); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		return
	}

	r := rootFS(t)
	mark := fmt.Sprintf("86300.%d", os.Getpid())
	caller := exec.Command(os.Args[0], "-test.run=^TestCommunicator_Start_CallerKilled$")
	caller.Env = append(os.Environ(), "USERNS_TEST_ROOT="+r.Dir, "USERNS_TEST_MARK="+mark)
	out, err := caller.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := caller.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}

	waitFor(t, "the command starts", func() bool { return running(t, mark) })
	if err := caller.Process.Kill(); err != nil {
		t.Fatal(err)
	}

	_ = caller.Wait()
	waitFor(t, "the command of a killed caller ends", func() bool { return !running(t, mark) })
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not come: %s", what)
		}
	}
}

func running(t *testing.T, mark string) bool {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		b, _ := os.ReadFile(file)
		return strings.HasPrefix(string(b), "sleep\x00"+mark)
	})
}

func TestCommunicator_Upload(t *testing.T) {
	r := rootFS(t)
	local := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(local, []byte("#!/bin/sh\necho tool\n"), 0o755); err != nil {
		t.Fatal(err)
	}

	fi, err := os.Stat(local)
	if err != nil {
		t.Fatal(err)
	}

	for name, tc := range map[string]struct {
		dst, file, mode string
		fi              *os.FileInfo
	}{
		"Mode":        {"/usr/bin/tool", "/usr/bin/tool", "755", &fi},
		"NoInfo":      {"/etc/plain", "/etc/plain", "644", nil},
		"Directory":   {"/etc", "/etc/tool", "755", &fi},
		"NewParents":  {"/srv/a b/", "/srv/a b/tool", "755", &fi},
		"QuotesInDst": {`/etc/it's "$HOME"`, `/etc/it's "$HOME"`, "755", &fi},
		"Replaces":    {"/usr/bin/tool", "/usr/bin/tool", "644", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if err := r.Upload(tc.dst, strings.NewReader("content of "+name), tc.fi); err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := r.Download(tc.file, &got); err != nil {
				t.Fatal(err)
			}
			if got.String() != "content of "+name {
				t.Errorf("content %q", got.String())
			}
			out, err := r.Command(t.Context(), "stat", "-c", "%a %u:%g", tc.file).Output()
			if err != nil || string(out) != tc.mode+" 0:0\n" {
				t.Errorf("stat: %q, %v; want mode %s of root", out, err, tc.mode)
			}
		})
	}
}

func TestCommunicator_Download_Missing(t *testing.T) {
	r := rootFS(t)
	err := r.Download("/etc/none", io.Discard)
	if err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("got %v, want an error that says the file is missing", err)
	}
}

func TestCommunicator_UploadDir(t *testing.T) {
	r := rootFS(t)
	src := filepath.Join(t.TempDir(), "tree")
	for name, mode := range map[string]fs.FileMode{"a/run": 0o755, "a/data": 0o640, "skip/x": 0o644, "b.tmp": 0o644} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(src, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(src, name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}

	if err := os.Symlink("nowhere", filepath.Join(src, "a/link")); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ src, at string }{"WithName": {src, "/srv/1/tree"}, "Contents": {src + "/", "/srv/2"}} {
		t.Run(name, func(t *testing.T) {
			dst := "/srv/1"
			if name == "Contents" {
				dst = "/srv/2"
			}
			if err := r.UploadDir(dst, tc.src, []string{"skip/", "*.tmp"}); err != nil {
				t.Fatal(err)
			}

			out, err := r.Command(t.Context(), "/bin/sh", "-c", `cd "$1" && ls && stat -c "%n %a %u:%g" a/run a/data && readlink a/link`, "sh", tc.at).Output()
			if want := "a\na/run 755 0:0\na/data 644 0:0\nnowhere\n"; err != nil || string(out) != want {
				t.Errorf("got %q, %v; want %q", out, err, want)
			}

			back := t.TempDir()
			if err := r.DownloadDir(tc.at+"/", back, []string{"a/run"}); err != nil {
				t.Fatal(err)
			}

			b, err := os.ReadFile(filepath.Join(back, "a/data"))
			if err != nil || string(b) != "a/data" {
				t.Errorf("downloaded %q, %v", b, err)
			}
			if _, err := os.Lstat(filepath.Join(back, "a/run")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("excluded file was downloaded: %v", err)
			}
		})
	}
}

func TestCommunicator_DownloadDir_Missing(t *testing.T) {
	r := rootFS(t)
	if err := r.DownloadDir("/none/", t.TempDir(), nil); err == nil {
		t.Error("no error for a directory that does not exist")
	}
}

func TestExtractDir_Escapes(t *testing.T) {
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	for _, h := range []tar.Header{
		{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "/"},
		{Name: "out/tmp/escaped", Typeflag: tar.TypeReg, Mode: 0o644},
	} {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	tw.Close()
	if err := extractDir(&archive, t.TempDir(), nil); err == nil {
		t.Error("an archive may write through a link out of its directory")
	}
}
