package vm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

// maxSerialLog bounds what a guest can make this host keep of its console, in
// bytes. The log before it is kept beside it, with the same bound.
const maxSerialLog = 16 << 20

// serialLog is a file that a machine appends to.
type serialLog struct {
	path   string
	limit  int64         // when the file is larger it is moved aside and begun anew; 0: never
	offset *atomic.Int64 // where the next read begins
}

// tail calls each with what is appended to the file at path, from offset on,
// until ctx ends. A file that becomes shorter is read from its start.
func tail(ctx context.Context, path string, offset int64, each func([]byte)) error {
	var at atomic.Int64
	at.Store(offset)
	return serialLog{path: path, offset: &at}.follow(ctx, each)
}

// follow calls each with what is appended, until ctx ends. A file that becomes
// shorter is read from its start.
func (l serialLog) follow(ctx context.Context, each func([]byte)) error {
	tick := time.NewTicker(200 * time.Millisecond) // inotify would save nothing here: the guest writes rarely
	defer tick.Stop()

	for {
		b, err := l.read()
		if err != nil {
			return err
		}
		if len(b) > 0 {
			each(b)
		}

		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// read returns what was appended since the last read, at most 1 MiB of it.
func (l serialLog) read() ([]byte, error) {
	f, err := os.Open(l.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()

	info, err := f.Stat()
	if err == nil && info.Size() < l.offset.Load() {
		l.offset.Store(0)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, l.offset.Load(), 1<<20))
	if err != nil {
		return nil, err
	}
	l.offset.Add(int64(len(b)))
	if l.limit > 0 && info != nil && info.Size() > l.limit {
		err = l.begin(f)
	}
	return b, err
}

// begin keeps the end of a log that has become too long beside it, and empties
// the file, which the machine has open to append to.
func (l serialLog) begin(f *os.File) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	last, err := io.ReadAll(io.NewSectionReader(f, max(0, end-l.limit), l.limit))
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.path+".1", last, 0o600); err != nil {
		return err
	}
	l.offset.Store(0)
	return os.Truncate(l.path, 0)
}

// kernelDeath is what Linux writes when it dies or nearly does.
var kernelDeath = regexp.MustCompile(`Kernel panic - not syncing|\bOops: |BUG: unable to handle|general protection fault|` + kernelStall.String())

// kernelStall is what Linux writes when a processor gets no timer interrupts any
// more, which happens to an emulated one now and then: nothing goes on from
// there. A guest that serves may write it on a host that was too busy for it.
var kernelStall = regexp.MustCompile(`rcu_preempt kthread timer wakeup didn't happen`)

// crashWatch looks for the end of the guest's kernel in its serial log.
type crashWatch struct{ rest []byte }

// feed returns the first line that tells of a dead kernel, or "".
func (w *crashWatch) feed(b []byte) string {
	lines := bytes.Split(append(w.rest, b...), []byte("\n"))
	w.rest = bytes.Clone(lines[len(lines)-1])
	if len(w.rest) > 64<<10 {
		w.rest = nil
	}
	for _, line := range lines[:len(lines)-1] {
		if kernelDeath.Match(line) {
			return cleanLine(string(line))
		}
	}
	return ""
}

var control = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f\u0080-\u009f]")

// cleanLine removes what a terminal would obey.
func cleanLine(s string) string { return strings.TrimRight(control.ReplaceAllString(s, ""), " \t\r\n") }

// cleanWriter passes on what the guest wrote without what a terminal would
// obey.
type cleanWriter struct{ w io.Writer }

func (c cleanWriter) Write(b []byte) (int, error) {
	if _, err := c.w.Write(control.ReplaceAll(b, nil)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// lastLines returns at most n lines from the end of the file at path, made
// safe to print.
func lastLines(path string, n int) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	end, _ := f.Seek(0, io.SeekEnd)
	b, _ := io.ReadAll(io.NewSectionReader(f, max(0, end-64<<10), 64<<10))
	var lines []string
	for _, line := range strings.Split(string(b), "\n") {
		if line = cleanLine(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-n):]
}
