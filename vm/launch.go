package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// supervise starts the supervisor process, detached from the caller's terminal
// and session, and waits for its word on how that went.
func (h Host) supervise(ctx context.Context, dir, verb string) error {
	if h.Supervisor == nil {
		return errors.New("no supervisor program given")
	}
	supervisor, err := h.Supervisor(ctx)
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, supervisorLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	defer r.Close()
	argv := append(supervisor[1:len(supervisor):len(supervisor)], verb, dir)
	cmd := exec.Command(supervisor[0], argv...) // not bound to ctx: it outlives the caller
	cmd.Stdout, cmd.Stderr = w, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// What the caller inherited, such as the descriptor of a flock(1) it runs
	// under, must not live as long as the machine. Everything that Go opens is
	// marked so already.
	unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) // best effort: Linux 5.11
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	go cmd.Wait() // so that it is no zombie while this process lives
	defer context.AfterFunc(ctx, func() { r.Close() })()
	return verdict(r, filepath.Join(dir, supervisorLog), ctx)
}

// verdict reads the line that the supervisor writes when the machine runs or
// does not.
func verdict(r *os.File, log string, ctx context.Context) error {
	var answer struct {
		Error string `json:"error"`
	}
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = json.Unmarshal(line, &answer)
	}
	if err != nil {
		return fmt.Errorf("the supervisor ended before the machine ran: see %s", log)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// orphans finds, below the proc file system at proc, the processes that run
// exactly the plan's commands in the instance's directory.
func orphans(proc, dir string, plan Plan) []Process {
	var found []Process
	links, _ := filepath.Glob(filepath.Join(proc, "[0-9]*/cwd"))
	for _, link := range links {
		if cwd, err := os.Readlink(link); err != nil || cwd != dir {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
		if err != nil {
			continue
		}
		for _, c := range plan.Processes {
			if bytes.Equal(cmdline, commandLine(c.Argv)) {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
				if p, err := Identify(c.Name, pid); err == nil {
					found = append(found, p)
				}
			}
		}
	}
	return found
}

// commandLine is argv in the form of /proc/PID/cmdline.
func commandLine(argv []string) []byte {
	var b bytes.Buffer
	for _, a := range argv {
		b.WriteString(a)
		b.WriteByte(0)
	}
	return b.Bytes()
}
