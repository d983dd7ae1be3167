package storage

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// proc is where the kernel shows processes.
const proc = "/proc"

// processes are some, for people: "sh (123), make (124)".
type processes []string

func (p processes) String() string { return strings.Join(p, ", ") }

// users are the processes that have a file of the mount at target open, run from
// it, or have their root or working directory in it.
func users(target string) (processes, error) {
	var st unix.Stat_t
	if err := unix.Stat(target, &st); err != nil {
		return nil, fmt.Errorf("look at %s: %w", target, err)
	}
	return find(func(pid string) bool {
		if strings.HasSuffix(pid, "/"+strconv.Itoa(os.Getpid())) {
			return false // it has just looked
		}
		for _, link := range []string{"root", "cwd", "exe"} {
			if onDevice(filepath.Join(pid, link), st.Dev) {
				return true
			}
		}
		fds, _ := filepath.Glob(pid + "/fd/*")
		for _, fd := range fds {
			if onDevice(fd, st.Dev) {
				return true
			}
		}
		return false
	})
}

// onDevice reports whether what a link of a process leads to lies on a device.
func onDevice(link string, device uint64) bool {
	var st unix.Stat_t
	return unix.Stat(link, &st) == nil && st.Dev == device
}

// holders are the processes in whose mount namespace there is an overlay with this
// upper directory, in whatever place. Threads have a namespace each.
func holders(upper string) (processes, error) {
	option := []byte("upperdir=" + upper)
	known := map[string]bool{} // by namespace, whether it has the overlay
	return find(func(pid string) bool {
		threads, _ := filepath.Glob(pid + "/task/*")
		for _, thread := range threads {
			namespace, err := os.Readlink(filepath.Join(thread, "ns/mnt"))
			if err != nil {
				continue
			}
			has, ok := known[namespace]
			if !ok {
				has = hasOverlay(filepath.Join(thread, "mountinfo"), option)
				known[namespace] = has
			}
			if has {
				return true
			}
		}
		return false
	})
}

// hasOverlay looks for an option in a table of mounts. A thread that has ended
// has none.
func hasOverlay(mountinfo string, option []byte) bool {
	f, err := os.Open(mountinfo)
	if err != nil {
		return false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		_, after, ok := bytes.Cut(lines.Bytes(), option)
		if ok && (len(after) == 0 || after[0] == ',') {
			return true
		}
	}
	return false
}

// find returns the processes for which is says so, of all that there are.
func find(is func(pid string) bool) (processes, error) {
	all, err := filepath.Glob(proc + "/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found processes
	for _, pid := range all {
		if !is(pid) {
			continue
		}
		name, err := os.ReadFile(filepath.Join(pid, "comm"))
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended
		}
		found = append(found, fmt.Sprintf("%s (%s)", bytes.TrimSpace(name), filepath.Base(pid)))
	}
	return found, nil
}

// mountSource is the device of a mount.
func mountSource(target string) (string, error) {
	f, err := os.Open(filepath.Join(proc, "self/mountinfo"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
		fields := strings.Fields(lines.Text())
		_, after, ok := strings.Cut(lines.Text(), " - ")
		if described := strings.Fields(after); ok && len(fields) > 4 && fields[4] == target && len(described) > 1 {
			return described[1], nil
		}
	}
	return "", fmt.Errorf("%s is not mounted", target)
}
