// Package usernstest makes root file systems for tests. Only tests import it.
package usernstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rockpool/rootvm/builders/userns"
)

// New makes a root file system of the host's own programs: enough for the
// scripts of userns and of the communicator. It is removed when the test ends.
func New(t *testing.T) *userns.Root {
	t.Helper()
	n, err := userns.New()
	if err != nil {
		t.Skipf("no namespaces on this machine: %v", err)
	}

	dir, err := os.MkdirTemp("", "userns")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for _, d := range []string{"bin", "etc", "tmp", "usr/bin", "usr/sbin", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files, err := programs()
	if err != nil {
		t.Skip(err)
	}
	for file, content := range files {
		to := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return n.Chroot(dir)
}

// programs reads what the tests' root file systems hold: some of the host's
// programs and their libraries.
var programs = sync.OnceValues(func() (map[string][]byte, error) {
	files := map[string][]byte{}
	add := func(from, to string) error {
		if files[to] != nil {
			return nil
		}
		b, err := os.ReadFile(from)
		files[to] = b
		return err
	}
	var paths []string
	for _, name := range []string{"sh", "env", "cat", "mkdir", "dirname", "chmod", "chown", "mv", "rm", "tar", "stat", "ls", "ln", "sleep", "touch", "id", "mkfifo", "readlink", "dd"} {
		host, err := exec.LookPath(name)
		if err != nil {
			return nil, fmt.Errorf("%s(1) is missing: install coreutils and tar", name)
		}
		to := "/usr/bin/" + name
		if name == "sh" {
			to = "/bin/sh"
		}
		if err := add(host, to); err != nil {
			return nil, err
		}
		paths = append(paths, host)
	}
	libraries, _ := exec.Command("ldd", paths...).Output() // not of programs linked statically
	for word := range strings.FieldsSeq(string(libraries)) {
		if strings.HasPrefix(word, "/") && !strings.HasSuffix(word, ":") {
			if err := add(word, word); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
})
