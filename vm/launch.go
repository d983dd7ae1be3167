package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// errNotRun says that a supervisor's program cannot be run.
var errNotRun = errors.New("the program does not run")

// errNoAnswer says that a supervisor ended without a word.
var errNoAnswer = errors.New("the supervisor ended before the machine ran")

// supervise starts the supervisor for the instance in dir: from the program
// that is kept with it, whose code wrote the instance's plan and state, or, where
// that is missing or broken, from the caller's.
func (h Host) supervise(ctx context.Context, dir, verb string) error {
	argv, err := keptSupervisor(dir)
	if err == nil {
		err = startSupervisor(ctx, dir, argv, verb)
		broken := errors.Is(err, errNotRun) || errors.Is(err, errNoAnswer) && verb == "attach"
		if !broken {
			return err
		}
	}
	if h.Supervisor == nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}

	h.log().Info("no supervisor's program with the instance", "dir", dir, "err", err)
	given, err := h.Supervisor(ctx)
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	if err := keepSupervisor(dir, given); err != nil {
		h.log().Warn("the supervisor's program is not kept", "err", err)
	}
	return startSupervisor(ctx, dir, given, verb)
}

// startSupervisor runs a supervisor, detached from the caller's terminal and
// session, and waits for its word on how that went.
func startSupervisor(ctx context.Context, dir string, argv []string, verb string) error {
	path := filepath.Join(dir, supervisorLog)
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	defer r.Close()

	keepDescriptors() // so that nothing of the caller's lives as long as the machine
	cmd, err := startDetached(append(argv[:len(argv):len(argv)], verb, dir), w, log)
	w.Close()
	if err != nil {
		return fmt.Errorf("start the supervisor: %w: %w", errNotRun, err)
	}
	go cmd.Wait() // so that it is no zombie while this process lives

	defer context.AfterFunc(ctx, func() { r.Close() })()
	return readAnswer(ctx, r, path)
}

// busyLimit is how long a program that was just written may be busy.
const busyLimit = 5 * time.Second

// detached makes a process the leader of a session of its own.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// startDetached starts a program that outlives the caller. A program that this
// process has just written is busy for as long as a child that was forked
// meanwhile, and holds the descriptor still, has not come to its exec
// (https://go.dev/issue/22315).
func startDetached(argv []string, stdout, stderr *os.File) (*exec.Cmd, error) {
	limit := time.Now().Add(busyLimit)
	for {
		cmd := exec.Command(argv[0], argv[1:]...) // not bound to a context
		cmd.Stdout, cmd.Stderr = stdout, stderr
		cmd.SysProcAttr = detached()
		err := cmd.Start()
		if !errors.Is(err, syscall.ETXTBSY) || time.Now().After(limit) {
			return cmd, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// readAnswer reads the line that the supervisor writes when the machine runs
// or does not.
func readAnswer(ctx context.Context, r *os.File, log string) error {
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
		return fmt.Errorf("%w: see %s", errNoAnswer, log)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}
