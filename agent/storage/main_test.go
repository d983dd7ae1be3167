package storage_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inNamespace says that the tests run in a mount namespace of their own.
const inNamespace = "ROCKPOOL_TEST_NAMESPACE"

// TestMain runs the tests, if root runs them, in a mount namespace of their own
// with shared mounts, as systemd makes them, so that nothing stays mounted.
func TestMain(m *testing.M) {
	if order := os.Getenv(orderVariable); order != "" {
		os.Exit(obey(order))
	}
	if os.Geteuid() != 0 || os.Getenv(inNamespace) != "" {
		os.Exit(m.Run())
	}
	c := exec.Command("/bin/sh", append([]string{"-c", `mount --make-rprivate / && mount --make-rshared / && exec "$0" "$@"`, "/proc/self/exe"}, os.Args[1:]...)...)
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	c.Args[3] = self
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), inNamespace+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err = c.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(e.ExitCode())
	}
	if err != nil {
		panic(err)
	}
}
