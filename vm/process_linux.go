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

// BootID names the current boot of the host: /proc/sys/kernel/random/boot_id.
func BootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// inspect returns when a process started, in clock ticks since boot (field 22
// of /proc/PID/stat), and whether any of its threads still runs.
func inspect(pid int) (start uint64, running bool, err error) {
	stat, err := processStat(pid)
	return stat.start, (stat.state != 'Z' || stat.threads > 1) && stat.state != 'X', err
}

// open returns a pidfd, which becomes readable when the process ends and
// never means another process. It fails when the process is gone.
func (p Process) open() (*os.File, error) {
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
	f, err := p.open()
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
	f, err := p.open()
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

// stat is what is used of /proc/PID/stat (proc_pid_stat(5)).
type stat struct {
	state   byte
	threads int
	start   uint64
}

// processStat reads the stat of a process. The command's name in its second
// field may hold spaces and parentheses.
func processStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	end := bytes.LastIndexByte(b, ')')
	fields := strings.Fields(string(b[end+1:])) // the first is the third
	if end < 0 || len(fields) < 20 {
		return stat{}, fmt.Errorf("/proc/%d/stat is not understood", pid)
	}
	threads, err := strconv.Atoi(fields[17])
	start, err2 := strconv.ParseUint(fields[19], 10, 64)
	return stat{fields[0][0], threads, start}, errors.Join(err, err2)
}
