package vm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// BootID names the current boot of the host: the sysctl kern.bootsessionuuid.
func BootID() string {
	id, _ := unix.Sysctl("kern.bootsessionuuid")
	return id
}

// zombie is SZOMB of <sys/proc.h>.
const zombie = 5

// inspect returns when a process started, in microseconds since 1970, and
// whether it still runs.
func inspect(pid int) (start uint64, running bool, err error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if errors.Is(err, unix.EIO) { // the kernel answers with nothing when there is no such process
		err = unix.ESRCH
	}
	if err != nil {
		return 0, false, fmt.Errorf("process %d: %w", pid, err)
	}
	began := info.Proc.P_starttime
	return uint64(began.Sec)*1e6 + uint64(began.Usec), info.Proc.P_stat != zombie, nil
}

// Signal sends a signal to this process. A process that is gone is no error.
// macOS has nothing like a pidfd: a pid that is used again between the look at
// the process and the signal would be hit, which takes 99999 new processes in
// that moment.
func (p Process) Signal(sig unix.Signal) error {
	if !p.Alive() {
		return nil
	}
	if err := unix.Kill(p.PID, sig); err != nil && err != unix.ESRCH {
		return fmt.Errorf("signal %s (pid %d): %w", p.Name, p.PID, err)
	}
	return nil
}

// Done is closed when the process ends, whoever its parent is.
func (p Process) Done() <-chan struct{} {
	done := make(chan struct{})
	queue, err := p.watchExit()
	if err != nil {
		close(done)
		return done
	}

	go func() {
		defer close(done)
		defer unix.Close(queue)
		events := make([]unix.Kevent_t, 1)
		for {
			if n, err := unix.Kevent(queue, nil, events, nil); n > 0 || (err != nil && err != unix.EINTR) {
				return
			}
		}
	}()
	return done
}

// watchExit returns a kqueue that has an event when the process ends. It fails
// when the process is gone.
func (p Process) watchExit() (int, error) {
	queue, err := unix.Kqueue()
	if err != nil {
		return -1, fmt.Errorf("watch process %s (pid %d): %w", p.Name, p.PID, err)
	}
	unix.CloseOnExec(queue)

	exit := make([]unix.Kevent_t, 1)
	unix.SetKevent(&exit[0], p.PID, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	exit[0].Fflags = unix.NOTE_EXIT
	_, err = unix.Kevent(queue, exit, nil, nil)
	if err == nil && !p.Alive() { // after the registration, so that it is of this process
		err = unix.ESRCH
	}
	if err != nil {
		unix.Close(queue)
		return -1, fmt.Errorf("watch process %s (pid %d): %w", p.Name, p.PID, err)
	}
	return queue, nil
}
