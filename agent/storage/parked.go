package storage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// podmanName is the name of Podman's processes.
const podmanName = "podman"

// endParked asks processes of Podman's to end whose first thread is all that
// still has the overlay of an upper directory. To copy from and to a container that
// runs, Podman's service enters its mount namespace with a thread that the Go
// runtime then throws away, but for a process's first one, which it parks: that
// stays in the namespace for as long as the service lives, and keeps the files in
// use. systemd starts the service anew when it is asked something.
func (p *Pool) endParked(upper string) error {
	owner := strconv.Itoa(p.Account)
	processes, err := filepath.Glob(proc + "/[0-9]*")
	if err != nil {
		return err
	}
	var errs []error
	for _, process := range processes {
		if parked(process, owner, []byte("upperdir="+upper)) {
			errs = append(errs, terminate(process, owner))
		}
	}
	return errors.Join(errs...)
}

// parked reports whether a process is one of Podman's, of a user, whose first
// thread alone has an overlay in its mount namespace.
func parked(process, uid string, option []byte) bool {
	if !isPodman(process, uid) {
		return false
	}
	threads, err := filepath.Glob(process + "/task/*")
	if err != nil {
		return false
	}
	having := slices.DeleteFunc(threads, func(thread string) bool {
		return !hasOverlay(filepath.Join(thread, "mountinfo"), option)
	})
	return len(having) == 1 && filepath.Base(having[0]) == filepath.Base(process)
}

// isPodman reports whether a process is one of Podman's, of a user.
func isPodman(process, uid string) bool {
	name, err := os.ReadFile(filepath.Join(process, "comm"))
	if err != nil || string(bytes.TrimSpace(name)) != podmanName {
		return false
	}
	status, err := os.ReadFile(filepath.Join(process, "status"))
	if err != nil {
		return false
	}
	_, ids, ok := bytes.Cut(status, []byte("\nUid:"))
	fields := bytes.Fields(ids)
	return ok && len(fields) > 0 && string(fields[0]) == uid
}

// terminate asks a process of Podman's to end. Its number may be another's by now.
func terminate(process, uid string) error {
	pid, err := strconv.Atoi(filepath.Base(process))
	if err != nil {
		return err
	}
	handle, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(handle)
	if !isPodman(process, uid) {
		return nil
	}
	if err := unix.PidfdSendSignal(handle, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end process %d: %w", pid, err)
	}
	return nil
}
