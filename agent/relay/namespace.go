package relay

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// enterNetwork moves this thread into the network namespace of a process, for
// good: a locked thread ends with its goroutine.
func enterNetwork(process *os.File) error {
	runtime.LockOSThread()
	err := unix.Setns(int(process.Fd()), unix.CLONE_NEWNET)
	if errors.Is(err, unix.EPERM) {
		return errOutside
	}
	if err != nil {
		return fmt.Errorf("enter the workspace's network: %w", err)
	}
	return nil
}

// ownNetwork names the network namespace of this thread.
func ownNetwork() (string, error) {
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return "", fmt.Errorf("name the workspace's network: %w", err)
	}
	return own, nil
}

// podmanNamespace is the parent of the user namespace of a container's process:
// the one that Podman runs in.
func podmanNamespace(process *os.File) (*os.File, error) {
	pid, err := pidOf(process)
	if err != nil {
		return nil, err
	}
	own, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if errors.Is(err, os.ErrNotExist) {
		return nil, os.ErrProcessDone
	}
	if err != nil {
		return nil, fmt.Errorf("find the workspace's user namespace: %w", err)
	}

	defer own.Close()
	if _, err := pidOf(process); err != nil { // else the number may be another's by now
		return nil, err
	}
	fd, err := unix.IoctlRetInt(int(own.Fd()), unix.NS_GET_PARENT)
	if err != nil {
		return nil, fmt.Errorf("find Podman's user namespace: %w", err)
	}
	return os.NewFile(uintptr(fd), "user namespace"), nil
}

// pidOf is the number of the process behind a pidfd, [os.ErrProcessDone] when it
// has ended.
func pidOf(process *os.File) (int, error) {
	f, err := os.Open(fmt.Sprintf("/proc/self/fdinfo/%d", process.Fd()))
	if err != nil {
		return 0, fmt.Errorf("look at a process: %w", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), "Pid:"); ok {
			pid, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				return 0, fmt.Errorf("look at a process: %w", err)
			}
			if pid <= 0 {
				return 0, os.ErrProcessDone
			}
			return pid, nil
		}
	}
	return 0, errors.New("the first file of a question is not a process")
}

// sameNamespace reports whether a process is of a container of the Podman in
// whose user namespace this program is.
func sameNamespace(process *os.File) bool {
	theirs, err := podmanNamespace(process)
	if err != nil {
		return false
	}
	defer theirs.Close()
	a, err := theirs.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat("/proc/self/ns/user")
	return err == nil && os.SameFile(a, b)
}

// The programs that start another in a user namespace, which one of several
// threads, as all in Go are, cannot enter, with no more of its capabilities than
// the relay needs: to enter network namespaces, to see whose sockets are there,
// and to read the lists of a process's files.
const (
	enterProgram   = "/usr/bin/nsenter"
	confineProgram = "/usr/bin/setpriv"
	capabilities   = "-all,+sys_admin,+sys_ptrace,+dac_read_search"
)

// execInside becomes a command inside a user namespace, with the ids that this
// program has: Podman's root is its user. It returns only when it cannot.
func execInside(ns *os.File, command []string) error {
	fd, err := unix.FcntlInt(ns.Fd(), unix.F_DUPFD, 0) // inherited
	if err != nil {
		return fmt.Errorf("keep the namespace open: %w", err)
	}
	defer unix.Close(fd)
	argv := append([]string{
		enterProgram, fmt.Sprintf("--user=/proc/self/fd/%d", fd), "--preserve-credentials", "--",
		confineProgram, "--bounding-set=" + capabilities, "--",
	}, command...)
	return fmt.Errorf("start %s: %w", enterProgram, unix.Exec(enterProgram, argv, os.Environ()))
}
