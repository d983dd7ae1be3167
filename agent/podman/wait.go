//go:build remote

package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containers/podman/v5/libpod/define"
	"github.com/containers/podman/v5/pkg/bindings/containers"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// Wait implements [agent.Observer]. The kernel tells when the container's
// first process ends: a question left open at Podman's service would keep that
// awake as long as the workspace runs.
func (e *Engine) Wait(ctx context.Context, id string) error {
	var pid int
	err := e.call(ctx, "wait", func(ctx context.Context) error {
		c, err := inspect(ctx, id)
		if err != nil || status(c.State.Status, c.State.Pid) != agent.ContainerRunning {
			return err
		}
		if pid = c.State.Pid; pid <= 0 {
			return errors.New("podman did not say which process the container is")
		}
		return nil
	})
	if err != nil || pid == 0 {
		return err
	}

	if err := waitProcess(ctx, pid); err != nil {
		return fmt.Errorf("podman: wait: %w", err)
	}

	patient, cancel := context.WithTimeout(ctx, monitorPatience)
	defer cancel()
	err = e.call(patient, "wait", func(ctx context.Context) error {
		e.awaitMonitor(ctx, id)
		return nil
	})
	if err != nil && ctx.Err() == nil {
		e.Log.Debug("podman was not told of a container's end", "workspace", id, "err", err)
	}
	return context.Cause(ctx)
}

// awaitMonitor waits until Podman knows of the end of a container whose first
// process has ended. Its monitor tells Podman a moment later, unless one of both
// was killed. That the container has ended is known all the same.
func (e *Engine) awaitMonitor(ctx context.Context, id string) {
	patient, cancel := context.WithTimeout(ctx, monitorPatience)
	defer cancel()
	ended := []string{define.ContainerStateStopped.String(), define.ContainerStateExited.String()}
	_, err := containers.Wait(patient, containerName(id), new(containers.WaitOptions).WithConditions(ended))
	if err != nil && !isNotFound(err) && ctx.Err() == nil {
		e.Log.Debug("podman was not told of a container's end", "workspace", id, "err", err)
	}
}

// monitorPatience is how long Podman may need to learn of a container's end.
const monitorPatience = 20 * time.Second

// waitProcess waits until a process of anybody's has ended.
func waitProcess(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch process %d: %w", pid, err)
	}

	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(0, 1)) })()
	err = conn.Read(hasEnded)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("watch process %d: %w", pid, err)
	}
	return nil
}

// hasEnded reports whether the process behind a pidfd has ended: only then it
// is readable.
func hasEnded(fd uintptr) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n > 0 || err != nil
}

// Process implements [agent.Processes].
func (e *Engine) Process(ctx context.Context, id string) (*os.File, error) {
	var pid int
	var cgroup string
	err := e.call(ctx, "process", func(ctx context.Context) error {
		c, err := running(ctx, id)
		if err == nil {
			pid, cgroup = c.State.Pid, c.State.CgroupPath
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return openProcess(pid, cgroup)
}

// openProcess opens a process that must be in a cgroup or below it: the number
// may be another process's by now.
func openProcess(pid int, cgroup string) (*os.File, error) {
	gone := agent.Errorf(agent.CodeConflict, "The workspace does not run. Start it first.")
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, gone
	}
	if err != nil {
		return nil, fmt.Errorf("podman: open process %d: %w", pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	own, unified := strings.CutPrefix(strings.TrimSpace(string(b)), "0::")
	switch ended, pollErr := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); {
	case errors.Is(err, os.ErrNotExist) || ended > 0:
		err = gone
	case err != nil || pollErr != nil:
		err = fmt.Errorf("podman: look at process %d: %w", pid, errors.Join(err, pollErr))
	case !unified || cgroup == "" || own != cgroup && !strings.HasPrefix(own, strings.TrimSuffix(cgroup, "/")+"/"):
		err = fmt.Errorf("podman: process %d is in the cgroup %q, the container in %q", pid, own, cgroup)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
