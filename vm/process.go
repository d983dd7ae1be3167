package vm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process identifies a process of this host for good: a pid alone may be
// another process tomorrow.
type Process struct {
	Name      string `json:"name,omitempty"`
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"` // clock ticks since boot, field 22 of /proc/PID/stat (proc_pid_stat(5))
	BootID    string `json:"bootID"`    // /proc/sys/kernel/random/boot_id
}

// BootID names the current boot of the host.
func BootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// Identify describes the running process pid.
func Identify(name string, pid int) (Process, error) {
	start, _, err := processStat(pid)
	if err != nil {
		return Process{}, fmt.Errorf("identify %s: %w", name, err)
	}
	return Process{Name: name, PID: pid, StartTime: start, BootID: BootID()}, nil
}

// Alive says whether exactly this process runs. A zombie does not.
func (p Process) Alive() bool {
	if p.PID <= 0 || p.BootID != BootID() {
		return false
	}
	start, state, err := processStat(p.PID)
	return err == nil && start == p.StartTime && state != 'Z' && state != 'X'
}

// Open returns a pidfd, which becomes readable when the process ends and
// never means another process. It fails when the process is gone.
func (p Process) Open() (*os.File, error) {
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open process %s (pid %d): %w", p.Name, p.PID, err)
	}
	if !p.Alive() { // after the open, so that the descriptor is this process's
		unix.Close(fd)
		return nil, fmt.Errorf("open process %s (pid %d): %w", p.Name, p.PID, os.ErrProcessDone)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// Signal sends a signal to exactly this process. A process that is gone is no
// error.
func (p Process) Signal(sig unix.Signal) error {
	f, err := p.Open()
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.PidfdSendSignal(int(f.Fd()), sig, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("signal %s (pid %d): %w", p.Name, p.PID, err)
	}
	return nil
}

// Done is closed when the process ends, whoever its parent is.
func (p Process) Done() <-chan struct{} {
	done := make(chan struct{})
	f, err := p.Open()
	if err != nil {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		defer f.Close()
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
		for {
			if n, err := unix.Poll(fds, -1); n > 0 || (err != nil && err != unix.EINTR) {
				return
			}
		}
	}()
	return done
}

// processStat reads a process's start time and state. The command's name in
// the second field may hold spaces and parentheses.
func processStat(pid int) (start uint64, state byte, err error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	end := bytes.LastIndexByte(b, ')')
	fields := strings.Fields(string(b[end+1:]))
	if end < 0 || len(fields) < 20 {
		return 0, 0, fmt.Errorf("/proc/%d/stat is not understood", pid)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, fields[0][0], err
}
