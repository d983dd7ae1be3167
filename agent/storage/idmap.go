package storage

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/rockpool/rootvm/agent"
)

// firstID is the id in the VM that the slot's id 0 is. The user's first range
// begins with one slot's worth of ids for the image store.
func (p *Pool) firstID(slot int) (int, error) {
	f, err := os.Open(p.SubUIDs)
	if err != nil {
		return 0, fmt.Errorf("find the ids of %s: %w", p.User, err)
	}
	defer f.Close()

	s := bufio.NewScanner(f)
	for s.Scan() {
		fields := strings.Split(s.Text(), ":")
		if len(fields) != 3 || fields[0] != p.User {
			continue
		}
		start, err1 := strconv.Atoi(fields[1])
		size, err2 := strconv.Atoi(fields[2])
		if err := errors.Join(err1, err2); err != nil {
			return 0, fmt.Errorf("%s: %w", p.SubUIDs, err)
		}
		offset := agent.SlotFirstID(slot) - 1
		if offset+agent.SlotSize > size {
			return 0, fmt.Errorf("%s gives %s %d ids, slot %d needs %d", p.SubUIDs, p.User, size, slot, offset+agent.SlotSize)
		}
		return start + offset, nil
	}

	return 0, errors.Join(fmt.Errorf("%s gives no ids to %s", p.SubUIDs, p.User), s.Err())
}

// userNamespace returns a user namespace whose ids 0 to 65535 are those from
// first on. The id behind them is the account's that runs the containers: Podman
// makes files as that account before it gives them to the container's user. A
// process has to be born into the namespace; it is this program again, which is
// stopped before its first instruction and killed as soon as the namespace is
// open.
func userNamespace(first, account int) (*os.File, error) {
	runtime.LockOSThread() // a tracer is a thread
	defer runtime.UnlockOSThread()

	ids := []syscall.SysProcIDMap{
		{ContainerID: 0, HostID: first, Size: agent.SlotSize},
		{ContainerID: agent.SlotSize, HostID: account, Size: 1},
	}
	process, err := os.StartProcess("/proc/self/exe", []string{"rockpool-slot"}, &os.ProcAttr{
		Sys: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: ids,
			GidMappings: ids,
			Ptrace:      true,
			Pdeathsig:   syscall.SIGKILL,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", process.Pid))
	killErr := process.Kill()
	_, waitErr := process.Wait()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a user namespace: %w", err), killErr, waitErr)
	}
	return f, nil
}
