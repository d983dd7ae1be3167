// Package slots makes ID-mapped views of the workspace image that the VM
// carries, one for each range of user and group ids, so that a container of
// that range starts from the image without a copy or a change of owners.
//
// The views are mounts in the VM's own mount namespace; only root can make
// them. rockpool-slots.socket hands each connection to a short-lived
// "rockpool-agent slot" that runs as root, reads one number and does nothing
// else: [Views.Answer]. [Client] is the other end, for the agent.
package slots

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/oneline"
	"github.com/rockpool/rootvm/guest"
)

// The places in the VM.
const (
	Rootfs  = guest.WorkspaceRoot // the carried image
	Dir     = guest.SlotsDir      // view k is Dir/k
	Socket  = guest.SlotsSocket
	SubUIDs = "/etc/subuid"
)

// Views makes views.
type Views struct {
	Rootfs  string // what they show
	Dir     string // where they are
	SubUIDs string // file like /etc/subuid: the ranges of User; /etc/subgid must say the same
	User    string // whose containers use them
}

// Answer reads the number of a slot, a line, makes its view and writes the
// path of the view, or "error: " and why not, as a line.
func (v Views) Answer(in io.Reader, out io.Writer) error {
	slot, err := readSlot(in)
	path := ""
	if err == nil {
		path, err = v.Ensure(slot)
	}
	return oneline.Answer(out, path, err)
}

// readSlot accepts a decimal number below [agent.ContainerSlots], nothing else.
func readSlot(r io.Reader) (int, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 8)).ReadString('\n')
	if err != nil {
		return 0, errors.New("the request is not the number of a slot")
	}
	s := strings.TrimSuffix(line, "\n")
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n >= agent.ContainerSlots || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("the request %q is not a number from 0 to %d", s, agent.ContainerSlots-1)
	}
	return int(n), nil
}

// Ensure makes the view of a slot unless it is there, and returns its path.
func (v Views) Ensure(slot int) (string, error) {
	if !agent.ValidSlot(slot) {
		return "", fmt.Errorf("slot %d is not below %d", slot, agent.ContainerSlots)
	}
	first, err := v.firstID(slot)
	if err != nil {
		return "", err
	}
	unlock, err := v.lock()
	if err != nil {
		return "", err
	}
	defer unlock()

	target := filepath.Join(v.Dir, strconv.Itoa(slot))
	if mounted, err := isMountPoint(target); err != nil || mounted {
		return target, err
	}
	if _, err := os.Stat(v.Rootfs); err != nil {
		return "", fmt.Errorf("the workspace image of this VM is missing: %w", err)
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return "", fmt.Errorf("make the place of a view: %w", err)
	}
	return target, mountView(v.Rootfs, target, first)
}

// lock keeps two requests for one slot apart.
func (v Views) lock() (unlock func(), err error) {
	if err := os.MkdirAll(v.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the views: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(v.Dir, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the views: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the views: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// firstID is the id in the VM that the slot's id 0 is. The user's first
// range begins with one slot's worth of ids for the image store.
func (v Views) firstID(slot int) (int, error) {
	f, err := os.Open(v.SubUIDs)
	if err != nil {
		return 0, fmt.Errorf("find the ids of %s: %w", v.User, err)
	}
	defer f.Close()

	s := bufio.NewScanner(f)
	for s.Scan() {
		fields := strings.Split(s.Text(), ":")
		if len(fields) != 3 || fields[0] != v.User {
			continue
		}
		start, err1 := strconv.Atoi(fields[1])
		size, err2 := strconv.Atoi(fields[2])
		if err := errors.Join(err1, err2); err != nil {
			return 0, fmt.Errorf("%s: %w", v.SubUIDs, err)
		}
		offset := agent.SlotFirstID(slot) - 1
		if offset+agent.SlotSize > size {
			return 0, fmt.Errorf("%s gives %s %d ids, slot %d needs %d", v.SubUIDs, v.User, size, slot, offset+agent.SlotSize)
		}
		return start + offset, nil
	}

	return 0, errors.Join(fmt.Errorf("%s gives no ids to %s", v.SubUIDs, v.User), s.Err())
}

// isMountPoint tells a mount from what is below it by the id of the mount.
func isMountPoint(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
