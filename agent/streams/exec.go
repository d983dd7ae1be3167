package streams

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"google.golang.org/protobuf/encoding/protowire"
)

// Fields of Exec's request: one of a command, input, a size.
const (
	requestCommand = 1
	requestInput   = 2
	requestSize    = 3
)

// Fields of Exec's response: one of an exit, output, errors.
const (
	responseExit   = 1
	responseOutput = 2
	responseErrors = 3
)

// command is what Exec is to run.
type command struct {
	name        string
	args        []string
	interactive bool // the host sends input
	tty         bool
	size        *pty.Winsize
	detach      bool
	env         []string
	workdir     string
}

// parseCommand reads the message {name=1, args=2, interactive=3, tty=4,
// terminal_size=5, detach=6, env=7, workdir=8}.
func parseCommand(b []byte) (command, error) {
	f, err := parseFields(b)
	if err != nil {
		return command{}, fault{codeInvalidArgument, err.Error()}
	}
	c := command{
		name: f.text(1), args: f.texts(2), interactive: f.numbers[3] != 0, tty: f.numbers[4] != 0,
		detach: f.numbers[6] != 0, workdir: f.text(8),
	}
	if c.name == "" {
		return c, fault{codeInvalidArgument, "no command is given"}
	}
	if size := f.bytes[5]; len(size) > 0 {
		if c.size, err = parseSize(size[len(size)-1]); err != nil {
			return c, err
		}
	}
	for _, entry := range f.bytes[7] {
		c.env = append(c.env, variable(entry))
	}
	return c, nil
}

// variable is an environment variable: an entry of a map {key=1, value=2}, or
// the text KEY=VALUE.
func variable(entry []byte) string {
	f, err := parseFields(entry)
	if err == nil && len(f.bytes[1]) == 1 && len(f.bytes[2]) <= 1 && len(f.numbers) == 0 {
		return f.text(1) + "=" + f.text(2)
	}
	return string(entry)
}

func parseSize(b []byte) (*pty.Winsize, error) {
	f, err := parseFields(b)
	if err != nil {
		return nil, fault{codeInvalidArgument, err.Error()}
	}
	return &pty.Winsize{Rows: uint16(f.numbers[1]), Cols: uint16(f.numbers[2])}, nil
}

// exec runs a command, with its input and output as messages.
func (s *Server) exec(ctx context.Context, c *call) error {
	first, err := c.receive()
	if err != nil {
		return fault{codeInvalidArgument, err.Error()}
	}
	request, err := parseFields(first)
	if err != nil || len(request.bytes[requestCommand]) != 1 {
		return fault{codeInvalidArgument, "the first message has no command"}
	}
	asked, err := parseCommand(request.bytes[requestCommand][0])
	if err != nil {
		return err
	}

	cmd := exec.CommandContext(ctx, asked.name, asked.args...)
	if asked.detach {
		cmd = exec.Command(asked.name, asked.args...) // it outlives the call
	}
	cmd.Dir, cmd.Env = s.Home, slices.Concat(os.Environ(), asked.env)
	if asked.workdir != "" {
		cmd.Dir = asked.workdir
	}
	// What it leaves running must not hold the call once it has ended itself.
	cmd.WaitDelay = time.Second
	switch {
	case asked.detach:
		err = detach(cmd)
	case asked.tty:
		err = c.runOnTerminal(cmd, asked)
	default:
		err = c.runPlain(cmd, asked)
	}
	code, err := exitCode(err)
	if err != nil {
		return err
	}
	exit := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(code))
	return c.send(protowire.AppendBytes(protowire.AppendTag(nil, responseExit, protowire.BytesType), exit))
}

// Exit codes of shells for commands that did not run.
const (
	codeCannotRun = 126
	codeNotFound  = 127
	codeSignal    = 128 // and the signal
)

// exitCode is the code that a command ended with, as a shell has it.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return 0, nil
	case errors.As(err, &exit):
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return codeSignal + int(ws.Signal()), nil
		}
		return exit.ExitCode(), nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return codeNotFound, nil
	case errors.Is(err, os.ErrPermission):
		return codeCannotRun, nil
	}
	return 0, err
}

// detach starts a command that goes on by itself.
func detach(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	return nil
}

// output sends what is written as messages of one field.
type output struct {
	c     *call
	field protowire.Number
}

func (o output) Write(b []byte) (int, error) {
	chunk := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), b)
	if err := o.c.send(protowire.AppendBytes(protowire.AppendTag(nil, o.field, protowire.BytesType), chunk)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// runPlain runs a command without a terminal.
func (c *call) runPlain(cmd *exec.Cmd, asked command) error {
	cmd.Stdout, cmd.Stderr = output{c, responseOutput}, output{c, responseErrors}
	if asked.interactive {
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		go c.input(stdin, nil)
	}
	return cmd.Run()
}

// runOnTerminal runs a command on a terminal of its own.
func (c *call) runOnTerminal(cmd *exec.Cmd, asked command) error {
	terminal, err := pty.StartWithSize(cmd, asked.size)
	if err != nil {
		return err
	}
	defer terminal.Close()
	if asked.interactive {
		go c.input(keepOpen{terminal}, terminal)
	}

	var copied sync.WaitGroup
	copied.Go(func() { _, _ = io.Copy(output{c, responseOutput}, terminal) }) // EIO when the last process let go
	err = cmd.Wait()
	done := make(chan struct{})
	go func() {
		copied.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Second): // what it left running has the terminal still
	}
	return err
}

// endOfInput is what a terminal takes for the end of the input: Ctrl-D.
const endOfInput = 4

// keepOpen is a terminal whose input ends without closing it.
type keepOpen struct{ terminal *os.File }

func (k keepOpen) Write(b []byte) (int, error) { return k.terminal.Write(b) }
func (k keepOpen) Close() error {
	_, err := k.terminal.Write([]byte{endOfInput})
	return err
}

// input passes on what the host sends until that ends: input, an empty piece of
// which is its end, and sizes of the terminal, if there is one.
func (c *call) input(to io.WriteCloser, terminal *os.File) {
	ended := false
	end := func() {
		if !ended {
			_ = to.Close()
		}
		ended = true
	}
	defer end()

	for {
		b, err := c.receive()
		if err != nil {
			return
		}
		f, err := parseFields(b)
		if err != nil {
			return
		}

		for _, chunk := range f.bytes[requestInput] {
			piece, err := parseFields(chunk)
			if err != nil {
				return
			}
			if text := piece.text(1); text == "" {
				end()
			} else if _, err := io.WriteString(to, text); err != nil {
				return
			}
		}
		for _, b := range f.bytes[requestSize] {
			if size, err := parseSize(b); err == nil && terminal != nil {
				_ = pty.Setsize(terminal, size)
			}
		}
	}
}
