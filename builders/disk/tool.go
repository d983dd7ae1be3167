package disk

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rockpool/rootvm/builders"
)

// toolError is a program that failed, with what it said.
type toolError struct {
	name   string
	output string
	err    error
}

func (e *toolError) Error() string {
	if e.output == "" {
		return fmt.Sprintf("%s: %v", e.name, e.err)
	}
	return fmt.Sprintf("%s: %v: %s", e.name, e.err, e.output)
}

func (e *toolError) Unwrap() error { return e.err }

// environment is all that a program may know of where and when it runs. The
// locale is for the names in an archive: mke2fs refuses those beyond ASCII in
// plain C. The tree's C library has C.UTF-8 built in, and LOCPATH keeps it from
// the host's.
func environment(tb Toolbox, spec builders.Spec) []string {
	return []string{"LC_ALL=C.UTF-8", "LOCPATH=" + tb.Path("usr/lib/locale"), "TZ=UTC", "SOURCE_DATE_EPOCH=" + strconv.FormatInt(spec.SourceDateEpoch, 10)}
}

// run runs a program of the toolbox in a bare environment.
func run(cmd *exec.Cmd, env ...string) error {
	_, err := output(cmd, env...)
	return err
}

// output is like run, and returns what the program said on both streams.
func output(cmd *exec.Cmd, env ...string) (string, error) {
	var said bytes.Buffer
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	text := strings.TrimSpace(said.String())
	if err == nil {
		return text, nil
	}
	return text, &toolError{name: toolName(cmd), output: lastLines(text, 5), err: err}
}

// toolName is the program's name, whatever loader it is run through.
func toolName(cmd *exec.Cmd) string {
	name := filepath.Base(cmd.Path)
	if !strings.HasPrefix(name, "ld-linux") && !strings.HasPrefix(name, "ld.so") {
		return name
	}
	for i := 1; i < len(cmd.Args); i++ {
		if cmd.Args[i] == "--library-path" || cmd.Args[i] == "--argv0" {
			i++
			continue
		}
		return filepath.Base(cmd.Args[i])
	}
	return name
}

func lastLines(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}

// replace has write fill a file that gets the name path when it is whole. What an
// interrupted run left beside it is removed first, so nothing accumulates;
// callers see to it that two never make the same path at once.
func replace(path string, write func(tmp string) error) error {
	f, err := builders.CreateFile(path)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if err := write(f.Name()); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// cancelled tells a cancelled context from a failure of the tool.
func cancelled(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
